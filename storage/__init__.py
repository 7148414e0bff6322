"""Persistence: Parquet tables, adapter files, the DuckDB catalog and named queries."""
