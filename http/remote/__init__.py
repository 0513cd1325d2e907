"""Prometheus's remote write and read."""
