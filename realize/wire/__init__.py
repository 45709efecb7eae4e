"""
AMP between two programs: the daemon's side, and stores of a peer.
"""
