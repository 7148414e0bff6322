"""The weights of many adapters at once: products, gradients, steps."""
