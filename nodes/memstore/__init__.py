"""What a shard holds in memory and in its file: part keys, write buffers, chunks, log."""
