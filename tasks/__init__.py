"""Glue: one Prefect task per stage, with caching, sharding, retries and limits."""
