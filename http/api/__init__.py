"""Routes by topic, and their JSON."""
