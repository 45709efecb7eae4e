"""
Where files are: one interface, and directories on a disk of this host behind it.
"""
