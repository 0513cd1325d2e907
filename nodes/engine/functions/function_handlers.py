"""What evaluates each PromQL function: one table over the modules that do it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from filoray.nodes.engine.functions.evaluation import Handler
from filoray.nodes.engine.functions.histogram_functions import HISTOGRAM_HANDLERS
from filoray.nodes.engine.functions.info_function import INFO_HANDLERS
from filoray.nodes.engine.functions.instant_functions import INSTANT_HANDLERS
from filoray.nodes.engine.functions.label_functions import LABEL_HANDLERS
from filoray.nodes.engine.functions.range_vector_functions import RANGE_VECTOR_HANDLERS
from filoray.nodes.engine.functions.value_sorting import SORT_HANDLERS

FUNCTION_HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        **INSTANT_HANDLERS,
        **RANGE_VECTOR_HANDLERS,
        **LABEL_HANDLERS,
        **SORT_HANDLERS,
        **HISTOGRAM_HANDLERS,
        **INFO_HANDLERS,
    }
)
"""By PromQL name. ``start() end() step() range()`` are constants by the time that an expression is evaluated."""
