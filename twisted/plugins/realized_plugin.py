"""
Shows ``realized`` to ``twistd`` and ``twist``.
"""

from twisted.application.service import ServiceMaker

realized = ServiceMaker(
    "realized",
    "realize.daemon.service",
    "Offer directories of this host to known peers, for realize.",
    "realized",
)
