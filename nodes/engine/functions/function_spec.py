"""What the engine has to know of a function of PromQL, beyond what the parser's table says: the columns of
``function_specs``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from filoray.nodes.engine.functions.evaluation import Handler
from filoray.nodes.engine.functions.range_functions import RangeFunction
from filoray.nodes.engine.query_params import QueryParams
from filoray.nodes.promql.function_table import FunctionSignature


class AtNode(Enum):
    """What of the function a node can evaluate by itself, over its own series."""

    EACH_SERIES = "all of it: each series is looked at by itself"
    NO_SERIES = "all of it, as any process can: it has scalars only"
    NOTHING = "nothing, as it must see the series of all nodes at once"


class AtGateway(Enum):
    """What the nodes are asked for where the function is evaluated at the gateway."""

    ARGUMENTS = "what each argument is, planned by itself"
    PRESENCE = "whether there is any series at all"
    PRESENCE_IN_WINDOWS = "whether there is any sample in the windows"
    INFO_SERIES = "the first argument, and which info series there are, with the times of their samples"


class Mapper(Enum):
    """How FiloDB's plans show the function."""

    PERIODIC_SAMPLES = "PeriodicSamplesMapper"
    INSTANT_VECTOR = "InstantVectorFunctionMapper"
    SORT = "SortFunctionMapper"
    MISCELLANEOUS = "MiscellaneousFunctionMapper"
    ABSENT = "AbsentFunctionMapper"
    SCALAR = "ScalarFunctionMapper"
    VECTOR = "VectorFunctionMapper"


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """``handler`` evaluates a call; None for what is a constant by then (``constant``).

    ``keeps_name``: its results are still of their metric. ``depends_on_time``: its value differs by step even over
    pinned arguments. ``orders_series``: an instant query's rows come in an order that means something. ``constant``:
    its value for a query, known before any evaluation. ``range_function``: what it does to windows, if that is all
    that it does.
    """

    signature: FunctionSignature
    handler: Handler | None
    at_node: AtNode = AtNode.EACH_SERIES
    at_gateway: AtGateway = AtGateway.ARGUMENTS
    mapper: Mapper = Mapper.INSTANT_VECTOR
    keeps_name: bool = False
    depends_on_time: bool = False
    orders_series: bool = False
    range_function: RangeFunction | None = None
    constant: Callable[[QueryParams], float] | None = None

    @property
    def name(self) -> str:
        return self.signature.name
