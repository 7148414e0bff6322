"""Prefect around a run: its settings, a server for one command, workers of deployments."""
