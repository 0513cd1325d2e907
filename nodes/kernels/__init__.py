"""Compiled (numba) loops over flat sample arrays. No Python objects inside, no decisions outside."""
