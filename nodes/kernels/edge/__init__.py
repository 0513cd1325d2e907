"""Kernels of the gateways: remote write and read, JSON."""
