"""The SEAL method in plain Python: nouns, configuration, domains, rewards and engines."""

__version__ = "0.1.0"
