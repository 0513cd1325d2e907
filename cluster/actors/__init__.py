"""Shells of the control plane: Ray actors, and what they do to other actors."""
