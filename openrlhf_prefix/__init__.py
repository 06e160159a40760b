"""Prefix-RFT (arXiv 2507.01679) on OpenRLHF: demonstrations and reinforcement in one stage."""

__version__ = "0.1.0"
