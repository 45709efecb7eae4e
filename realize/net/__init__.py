"""
What lies below the protocol: keys, TLS, addresses, limits on bytes per second.
"""
