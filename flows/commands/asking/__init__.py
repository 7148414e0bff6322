"""Commands that answer from what runs recorded."""
