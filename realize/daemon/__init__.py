"""
The twistd service that offers this host's directories to known peers.
"""
