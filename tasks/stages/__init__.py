"""The stages of the method: each a declaration, its works and its body."""
