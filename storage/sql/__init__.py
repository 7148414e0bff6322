"""Read-only SQL over the tables."""
