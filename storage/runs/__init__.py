"""What a store knows of its runs."""
