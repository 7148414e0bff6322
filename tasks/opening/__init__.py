"""From a config to an open run: checks, name, engines."""
