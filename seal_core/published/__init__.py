"""Result files of the reference implementation, read as nouns of the pipeline."""
