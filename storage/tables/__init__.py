"""Tables of rows as Parquet files: schema, paths, manifests."""
