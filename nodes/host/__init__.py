"""What a node process runs: its shards, the threads that change them, its answers."""
