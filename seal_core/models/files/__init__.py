"""Files of models and adapters: where they are, what is in them."""
