"""Engines: the only place that imports torch, transformers, peft, trl and vLLM."""
