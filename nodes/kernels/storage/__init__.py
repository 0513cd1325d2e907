"""Kernels of the shards: write buffers, chunks, the index."""
