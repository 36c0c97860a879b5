"""Results as parquet: schema, write, read, publish, compare. Never imports torch."""
