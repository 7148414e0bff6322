"""Commands about models, policies and their weights."""
