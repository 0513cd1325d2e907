"""The ``filoray`` command: launching, asking, offline tools."""
