"""Evaluation of PromQL: plans, Frames, and the operations that map Frames to Frames."""
