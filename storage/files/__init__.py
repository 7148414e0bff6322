"""Files under a root: a folder or object storage, records, locks."""
