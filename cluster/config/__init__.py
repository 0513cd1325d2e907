"""Configurations: HOCON and JSON in, typed and checked dataclasses out."""
