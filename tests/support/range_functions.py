"""The functions of one range vector, by PromQL name."""

from __future__ import annotations

from filoray.nodes.engine.functions.function_specs import FUNCTION_SPECS

RANGE_FUNCTIONS = {
    name: spec.range_function for name, spec in FUNCTION_SPECS.items() if spec.range_function is not None
}
