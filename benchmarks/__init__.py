"""
What ``realize`` costs, beside what others would use for the same work.
"""
