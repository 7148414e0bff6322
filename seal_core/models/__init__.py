"""Models as they are loaded: files, tokens, layers, adapters."""
