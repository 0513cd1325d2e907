"""Queries and writes to the nodes that have the shards, and back."""
