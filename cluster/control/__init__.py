"""The control plane's decisions, pure: no Ray, no clock, no input or output."""
