"""Tools for data at rest: check, measure, export, import, snapshot. They read shard files; no cluster is needed."""
