"""What keeps a shard in bounds: flushing, retention, cardinality."""
