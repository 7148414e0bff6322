"""Answers requests, each with adapters of its own."""
