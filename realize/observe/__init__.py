"""
What the program tells about itself: events, metrics, and how they leave the process.
"""
