"""What the control plane may not lose: the MetaStore and who may use it."""
