"""Whole clusters in one thread and virtual time."""
