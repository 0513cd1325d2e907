"""Reports of what happened to a cluster, each one HTML file that needs nothing else."""
