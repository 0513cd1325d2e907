"""Posted configurations are read beside the event loop, a few at once, and go on to the coordinator as JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable

import pytest

from filoray.cluster.config.parse_budget import ParseBudget
from filoray.cluster.config.server_config import ServerConfig, default_server_config
from filoray.cluster.errors import BadData, ConfigError, FilorayError, QueryTimeout, Unavailable
from filoray.cluster.units import PlainValue
from filoray.http.api import source_configs
from filoray.http.api.source_configs import SourceConfigReader
from filoray.http.server.services import RayClusterControl

HOCON = """
dataset = metrics, num-shards = 4, min-num-nodes = 1
sourcefactory = filodb.kafka.KafkaIngestionStreamFactory
sourceconfig { filo-topic-name = 007, bootstrap.servers = ["a:1", "b:2"], store { flush-interval = 1h } }
"""
VALUES = {
    "dataset": "metrics", "num-shards": 4, "min-num-nodes": 1,
    "sourcefactory": "filodb.kafka.KafkaIngestionStreamFactory",
    "sourceconfig": {
        "filo-topic-name": "007", "bootstrap": {"servers": ["a:1", "b:2"]}, "store": {"flush-interval": "1h"},
    },
}  # fmt: skip


def config_with(**limits: int) -> ServerConfig:
    config = default_server_config()
    reading = {"timeout_ms": limits.pop("timeout_ms")} if "timeout_ms" in limits else {}
    dataset_limits = dataclasses.replace(config.dataset_limits, **limits)
    dataset_limits = dataclasses.replace(dataset_limits, reading=dataclasses.replace(dataset_limits.reading, **reading))
    return dataclasses.replace(config, dataset_limits=dataset_limits)


class HeldReading:
    """In place of ``parse_posted``: each reading waits until it is let go, or until its budget is canceled."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.running = 0
        self.running_max = 0
        self.canceled = 0
        self._lock = threading.Lock()

    def __call__(self, text: str, budget: ParseBudget) -> dict[str, PlainValue]:
        with self._lock:
            self.running += 1
            self.running_max = max(self.running_max, self.running)
        try:
            while not self.let_go.wait(0.005):
                for _ in range(1000):
                    budget.step()
        except BaseException:
            self.canceled += 1
            raise
        finally:
            with self._lock:
                self.running -= 1
        return dict(VALUES)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldReading:
    reading = HeldReading()
    monkeypatch.setattr(source_configs, "parse_posted", reading)
    return reading


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_configuration_becomes_json_with_the_characters_that_were_written() -> None:
    read = await SourceConfigReader(config_with()).read("metrics", HOCON)
    assert (json.loads(read.json_text), read.warnings) == (VALUES, ())


async def test_its_sender_hears_of_a_key_that_nobody_knows() -> None:
    read = await SourceConfigReader(config_with()).read("metrics", f"{HOCON}\nnum-copies = 2")
    assert read.warnings == ("num-copies has no effect here",)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("..", HOCON, "'..' is not a dataset name"),
        ("other", HOCON, "'metrics' is not the dataset of the path, 'other'"),
        ("metrics", HOCON.replace("= 4", "= 3"), "num-shards: 3 is not a power of two"),
        (
            "metrics",
            HOCON.replace("store {", "plugin.library.paths = x, store {"),
            r"sourceconfig\.plugin\.library\.paths",
        ),
        ("metrics", HOCON + "}", "source configuration:5:1: cannot be parsed"),
    ],
)
async def test_what_is_wrong_is_said_before_the_coordinator_is_asked(name: str, text: str, problem: str) -> None:
    with pytest.raises(BadData, match=problem):
        await SourceConfigReader(config_with()).read(name, text)


@pytest.mark.parametrize(
    "line",
    [
        "num-shards = " + "x" * 100_000,
        "sourceconfig { auto.offset.reset = " + "x" * 100_000 + " }",
        "sourceconfig { plugin." + "x" * 100_000 + " = 1 }",
        "a = ${" + "x" * 100_000 + "}",
    ],
)
async def test_what_an_error_quotes_is_short_however_long_it_was(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await SourceConfigReader(config_with()).read("metrics", f"{HOCON}\n{line}")
    assert 100 < len(caught.value.message) < 1200


async def test_the_event_loop_goes_on_while_a_configuration_is_read(held: HeldReading) -> None:
    reading = asyncio.create_task(SourceConfigReader(config_with()).read("metrics", HOCON))
    await until(lambda: held.running == 1)  # which this very loop notices
    held.let_go.set()
    assert json.loads((await reading).json_text) == VALUES


async def test_a_few_are_read_at_once_some_wait_and_more_are_refused(held: HeldReading) -> None:
    reader = SourceConfigReader(config_with(max_concurrent_readings=2))
    readings = [asyncio.create_task(reader.read("metrics", HOCON)) for _ in range(2 + 16)]
    await until(lambda: held.running == 2)
    with pytest.raises(Unavailable, match=r"filoray\.datasets\.max-concurrent-configs = 2"):
        await reader.read("metrics", HOCON)
    held.let_go.set()
    assert len(await asyncio.gather(*readings)) == 18
    assert held.running_max == 2


async def test_one_that_waits_too_long_for_its_turn_is_told_so(held: HeldReading) -> None:
    reader = SourceConfigReader(config_with(max_concurrent_readings=1, timeout_ms=50))
    first = asyncio.create_task(reader.read("metrics", HOCON))
    await until(lambda: held.running == 1)
    with pytest.raises((QueryTimeout, ConfigError)) as caught:
        await reader.read("metrics", HOCON)
    assert caught.value.http_status in (400, 503)
    with pytest.raises(FilorayError, match="config-timeout"):
        await first


async def test_a_sender_that_goes_away_ends_its_reading(held: HeldReading) -> None:
    reading = asyncio.create_task(SourceConfigReader(config_with(timeout_ms=600_000)).read("metrics", HOCON))
    await until(lambda: held.running == 1)
    reading.cancel()
    await until(lambda: held.canceled == 1 and held.running == 0)


async def test_the_coordinator_gets_json(monkeypatch: pytest.MonkeyPatch) -> None:
    control = RayClusterControl(config_with(), "gateway-0")
    calls: list[tuple[object, ...]] = []

    async def call(*arguments: object, actor: str) -> None:
        calls.append(arguments)

    monkeypatch.setattr(control, "_call", call)
    assert await control.setup_dataset("metrics", f"{HOCON}\nschema = gauge") == ()
    ((method, name, text),) = calls
    assert (method, name, json.loads(str(text))) == ("setup_dataset", "metrics", VALUES | {"schema": "gauge"})
