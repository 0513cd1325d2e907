"""What one query and one write may cost: the ``query`` and ``write`` blocks of the server's configuration, declared.

``conf/filoray-defaults.conf`` has the defaults and the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from filoray.cluster.config.setting import Duration, Flag, Integer, Size

_LABEL_TEXT_BYTES_MAX = 0xFFFF  # a part key keeps the length of a name or a value in two bytes


@dataclass(frozen=True, slots=True)
class QueryConfig:
    timeout_ms: Annotated[int, Duration("timeout", minimum=1)]
    lookback_ms: Annotated[int, Duration("lookback", minimum=1)]
    default_step_ms: Annotated[int, Duration("default-step", minimum=1)]
    max_samples: Annotated[int, Integer("max-samples", minimum=1)]
    max_series: Annotated[int, Integer("max-series", minimum=1)]
    max_points_per_series: Annotated[int, Integer("max-points-per-series", minimum=1)]
    max_result_bytes: Annotated[int, Size("max-result-size", minimum=1024)]
    max_concurrent: Annotated[int, Integer("max-concurrent", minimum=1)]
    max_concurrent_metadata: Annotated[int, Integer("max-concurrent-metadata", minimum=1)]
    max_waiting: Annotated[int, Integer("max-waiting")]
    max_query_bytes: Annotated[int, Size("max-query-size", minimum=1)]
    max_depth: Annotated[int, Integer("max-depth", minimum=1, maximum=500)]
    max_terms: Annotated[int, Integer("max-terms", minimum=1)]
    max_regex_bytes: Annotated[int, Size("max-regex-size", minimum=1 << 20)]
    label_values_limit: Annotated[int, Integer("label-values-limit")]
    experimental_functions: Annotated[bool, Flag("experimental-functions")]
    duration_expressions: Annotated[bool, Flag("duration-expressions")]
    extended_range_selectors: Annotated[bool, Flag("extended-range-selectors")]
    delayed_name_removal: Annotated[bool, Flag("delayed-name-removal")]


@dataclass(frozen=True, slots=True)
class WriteConfig:
    max_body_bytes: Annotated[int, Size("max-body-size", minimum=1)]
    max_decoded_bytes: Annotated[int, Size("max-decoded-size", minimum=1)]
    max_label_count: Annotated[int, Integer("max-label-count", minimum=1)]
    max_label_name_bytes: Annotated[int, Size("max-label-name-size", minimum=1, maximum=_LABEL_TEXT_BYTES_MAX)]
    max_label_value_bytes: Annotated[int, Size("max-label-value-size", minimum=1, maximum=_LABEL_TEXT_BYTES_MAX)]
    timeout_ms: Annotated[int, Duration("timeout", minimum=1)]
    max_concurrent: Annotated[int, Integer("max-concurrent", minimum=1)]
    max_pending_bytes: Annotated[int, Size("max-pending-size", minimum=1)]
    series_cache_count: Annotated[int, Integer("series-cache-count")]
