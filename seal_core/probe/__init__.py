"""Tries whether a model is used as plain transformers and PEFT use it."""
