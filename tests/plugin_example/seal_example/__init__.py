"""Kinds of another package for SEAL pipeline; see its docs/plugins.md."""
