"""What evaluates each PromQL function: one table over the modules that do it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from filoray.nodes.engine.histogram_functions import HISTOGRAM_HANDLERS
from filoray.nodes.engine.info_function import INFO_HANDLERS
from filoray.nodes.engine.instant_functions import INSTANT_HANDLERS
from filoray.nodes.engine.label_functions import LABEL_HANDLERS
from filoray.nodes.engine.range_vector_functions import RANGE_VECTOR_HANDLERS
from filoray.nodes.engine.value_sorting import SORT_HANDLERS

if TYPE_CHECKING:
    from filoray.nodes.engine.evaluator import Handler

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
