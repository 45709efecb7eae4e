"""
What a file and a changed version of it have in common: chunks, signatures, plans.
"""
