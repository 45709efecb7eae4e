"""
The ``realize`` command.
"""
