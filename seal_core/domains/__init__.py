"""Domains: where problems come from, how edits are asked for and become training rows."""
