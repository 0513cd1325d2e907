"""Scenarios: what is done to a cluster, written as text, and what must hold of it; played in either world."""
