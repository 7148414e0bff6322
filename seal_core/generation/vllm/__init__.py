"""Answers requests over a vLLM server."""
