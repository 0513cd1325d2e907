"""A shard's files and tables: what is written, and what is damaged."""
