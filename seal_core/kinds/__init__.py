"""Kinds that a config names: built-in ones, and those of other packages."""
