"""Reads the source configurations that are posted, beside the event loop and a few at once.

A text may be a mebibyte of anybody's HOCON: it is read on another thread, under a budget that ends it soon whatever it
says (``filoray.cluster.config.parse_budget``), and given up when its sender went away. What the coordinator gets is the
plain values as JSON, which cost it next to nothing; its sender hears of keys that nobody knows.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from filoray.cluster.config.config_section import ConfigSource, shortened
from filoray.cluster.config.dataset import read_dataset_config
from filoray.cluster.config.dataset_name import check_dataset_name
from filoray.cluster.config.hocon import parse_posted
from filoray.cluster.config.ignored_keys import unknown_keys
from filoray.cluster.config.parse_budget import ParseBudget
from filoray.cluster.config.server_config import ServerConfig
from filoray.cluster.errors import ConfigError
from filoray.http.server.admission import AdmissionGate
from filoray.nodes.streams.sources import check_source

_PLACE = "source configuration"
_WAITING_PER_TURN = 8  # each holds its text meanwhile


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """``warnings``: sentences for its sender."""

    json_text: str
    warnings: tuple[str, ...]


class SourceConfigReader:
    """Belongs to one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._limits = config.dataset_limits
        turns = self._limits.max_concurrent_readings
        self._gate = AdmissionGate(
            "configurations", turns, _WAITING_PER_TURN * turns, "filoray.datasets.max-concurrent-configs"
        )

    async def read(self, name: str, text: str) -> ReadConfig:
        """A configuration that is right for the dataset ``name``.

        Raises BadData and ConfigError for what is wrong with it, Unavailable when too many others are being read.
        """
        check_dataset_name(name)
        reading = self._limits.reading
        async with self._gate.slot(reading.timeout_ms):
            budget = ParseBudget(_PLACE, reading)
            try:
                return await asyncio.to_thread(self._read, name, text, budget)
            except ConfigError as error:
                raise ConfigError(shortened(error.message)) from None
            finally:
                budget.cancel()

    def _read(self, name: str, text: str, budget: ParseBudget) -> ReadConfig:
        values = parse_posted(text, budget)
        source = ConfigSource(_PLACE, text)
        config = read_dataset_config(values, name, source, self._config.store, self._config.spread_default)
        check_source(config, self._limits)  # what streams need is known to the nodes' code, not to the coordinator's
        return ReadConfig(json.dumps(values, ensure_ascii=False), unknown_keys(config.ignored_keys))
