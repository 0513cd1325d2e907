"""PromQL's functions over Frames."""
