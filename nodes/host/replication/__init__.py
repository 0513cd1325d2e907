"""Copies of shards: what a node does for those that it leads, and for those that it follows."""
