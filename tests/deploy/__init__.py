"""Deployments on loopback: a real Prefect server on a real Postgres, with workers."""
