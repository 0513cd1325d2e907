"""Offline tools on the files of shards."""
