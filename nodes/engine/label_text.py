"""Label sets as messages print them: ``{__name__="up", job="a"}``, Go's labels.Labels.String()."""

from __future__ import annotations

from collections.abc import Mapping

from filoray.nodes.promql.quoting import label_name_text, quote


def label_set_text(labels: Mapping[str, str]) -> str:
    """Sorted by name; names that need it and all values are quoted."""
    return "{" + ", ".join(f"{label_name_text(name)}={quote(labels[name])}" for name in sorted(labels)) + "}"
