"""Ingestion streams: where a shard's record containers come from."""
