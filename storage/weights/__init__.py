"""Adapters, addressed by the digest of their contents."""
