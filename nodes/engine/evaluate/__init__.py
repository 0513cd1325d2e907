"""Expressions over Frames: leaves, operators, aggregations."""
