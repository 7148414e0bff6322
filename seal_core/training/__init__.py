"""Trains LoRA adapters: many at once, one at a time over PEFT, and the policy itself."""
