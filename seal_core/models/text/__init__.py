"""Text as a model reads it: tokens, chat templates, context."""
