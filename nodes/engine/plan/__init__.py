"""A query's tree to what nodes do and what the gateway does with their answers."""
