"""Commands that look after stores and the machine."""
