"""Kernels that queries are computed with."""
