"""Sealed samples: encoding, keeping, reading."""
