"""
The algorithm that moves files from one store to another, wherever they are.
"""
