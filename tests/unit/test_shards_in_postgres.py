"""Whole shards whose store is PostgreSQL: recovery, paging in, take-over, an uncertain commit, deletion."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from cut_proxy import Cut, CutProxy
from postgres_server import PostgresServer, running_postgres
from shards import ALL_TIME, NOW_MS, container, matching, samples_of, shard_spec, write
from waiting import wait_until

from filoray.cluster.config.dataset import DatasetConfig, parse_dataset_config
from filoray.cluster.control.shard_status import ShardEvent
from filoray.cluster.errors import StaleRoute
from filoray.nodes.data.write_outcome import WriteOutcome
from filoray.nodes.host.append_jobs import PendingWrite
from filoray.nodes.host.shard_host import ShardHost
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.wire.write_reply import Refused, ShardWriteReply

SERIES = [{"__name__": "up", "instance": f"host-{i}", "job": "api"} for i in range(60)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def url(server: PostgresServer) -> str:
    return server.new_database()


@pytest.fixture
def spec(url: str, tmp_path: Path) -> ShardSpec:
    return dataclasses.replace(shard_spec(tmp_path), dataset=tmp_path.name, column_store_url=url)


def write_all(shard: Shard, first: int, count: int) -> None:
    steps = range(first, first + count)
    shard.append([container([(labels, [(t * 1000, math.sin(t + i)) for t in steps])])
                  for i, labels in enumerate(SERIES)])  # fmt: skip


def everything(shard: Shard) -> dict[tuple[tuple[str, str], ...], list[tuple[int, bytes]]]:
    return samples_of(shard.select(matching(name_="up"), *ALL_TIME))


def test_all_is_there_again_from_log_and_chunks(spec):
    shard = Shard.open(spec)
    write_all(shard, 0, 500)
    shard.flush_all(NOW_MS)
    write_all(shard, 500, 100)
    before = everything(shard)
    assert {len(samples) for samples in before.values()} == {600}
    assert shard.stats().chunks
    # Not closed: as after a kill.
    percents: list[int] = []
    again = Shard.open(dataclasses.replace(spec, epoch=2), percents.append)
    assert percents[-1] == 100
    assert everything(again) == before
    assert not again.stats().damages
    with pytest.raises(StaleRoute):
        write(shard, SERIES[0], [(10**9, 1.0)])
    again.flush_all(NOW_MS)
    assert again.stats().log_bytes == 0
    assert everything(again) == before
    assert not list(spec.path.parent.glob("*.db"))
    for one in (shard, again):
        one.close()


class Host:
    """A shard host with one data set in PostgreSQL, and what it reported."""

    def __init__(self, data_dir: Path, url: str, name: str) -> None:
        self.events: list[ShardEvent] = []
        self.host = ShardHost("node-0", data_dir, lambda dataset, shard, epoch, event: self.events.append(event), url)
        self.config = dataset_config(name)
        self.host.start_shards(self.config, [(0, 1)])
        self.wait_for("IngestionStarted")

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exception: object) -> None:
        self.host.close()

    def wait_for(self, *names: str) -> None:
        wait_until(
            lambda: tuple(type(event).__name__ for event in self.events[-len(names) :]) == names,
            lambda: f"{names}, reported: {self.events}",
        )

    def write(self, value: int) -> ShardWriteReply:
        replies: list[ShardWriteReply] = []
        answered = threading.Event()

        def respond(got: Sequence[ShardWriteReply]) -> None:
            replies.extend(got)
            answered.set()

        data = container([(SERIES[0], [(value * 1000, float(value))])])
        self.host.submit(self.config.name, [(0, 1)], [data], PendingWrite(respond, [None]))
        assert answered.wait(30)
        return replies[0]

    def values(self) -> list[float]:
        (shard,) = self.host.readable(self.config.name, [(0, 1)])
        return shard.select((), *ALL_TIME).values.tolist()


def dataset_config(name: str) -> DatasetConfig:
    body = {
        "dataset": name, "num-shards": 1, "min-num-nodes": 1,
        "sourcefactory": "filoray.nodes.streams.LogStreamFactory", "sourceconfig": {"store": {"groups-per-shard": 4}},
    }  # fmt: skip
    return parse_dataset_config(orjson.dumps(body).decode(), name)


@pytest.mark.parametrize(("cut", "stored"), [(Cut.BEFORE_COMMIT, [1.0]), (Cut.AFTER_COMMIT, [1.0, 2.0])])
def test_a_shard_that_does_not_know_what_it_stored_is_recovered_and_goes_on(
    cut, stored, server, url, tmp_path, monkeypatch
):
    monkeypatch.setattr("filoray.nodes.memstore.store.sql_column_store.OUTCOME_TIMEOUT_S", 0.3)
    with (
        CutProxy(server.port) as proxy,
        Host(tmp_path, server.url(url.rpartition("/")[2], proxy.port), tmp_path.name) as host,
    ):
        assert isinstance(host.write(1), WriteOutcome)
        proxy.cut, proxy.closes_after_cut = cut, True
        refused = host.write(2)
        assert isinstance(refused, Refused)
        assert refused.error_class == "Unavailable"
        host.wait_for("IngestionError", "IngestionError")  # that it is opened anew; that this does not work yet
        with pytest.raises(StaleRoute):
            host.values()
        proxy.is_open = True
        host.wait_for("IngestionStarted")
        assert host.values() == stored
        assert isinstance(host.write(2), WriteOutcome)
        assert isinstance(host.write(3), WriteOutcome)
        assert host.values() == [1.0, 2.0, 3.0]


def rows(server: PostgresServer, url: str, dataset: str) -> int:
    tables = "column_stores", "log", "part_keys", "chunks", "checkpoints"
    counts = " + ".join(f"(SELECT count(*) FROM {table} WHERE dataset = '{dataset}')" for table in tables)
    ((count,),) = server.sql(f"SELECT {counts}", url.rpartition("/")[2])
    return int(str(count))


@pytest.mark.parametrize("is_held", [True, False])
def test_deleting_a_data_set_removes_its_rows_whether_its_shard_is_held_or_not(is_held, server, url, tmp_path):
    with Host(tmp_path, url, tmp_path.name) as host:
        assert isinstance(host.write(1), WriteOutcome)
        assert rows(server, url, tmp_path.name) == 3
        if not is_held:
            host.host.stop_shards(tmp_path.name, [(0, 1)])
        host.host.delete_shards(tmp_path.name, 0, [0])
        assert rows(server, url, tmp_path.name) == 0


def test_a_late_deletion_or_a_late_writer_touches_no_row_of_a_later_data_set_of_that_name(server, url, tmp_path):
    with Host(tmp_path, url, tmp_path.name) as host:
        assert isinstance(host.write(1), WriteOutcome)
        late = Shard.open(
            dataclasses.replace(shard_spec(tmp_path), dataset=tmp_path.name, shard=0, column_store_url=url, epoch=1)
        )
        host.host.delete_shards(tmp_path.name, 0, [0])
        host.host.start_shards(dataclasses.replace(host.config, generation=1), [(0, 2)])
        host.wait_for("RecoveryInProgress", "IngestionStarted")
        host.host.delete_shards(tmp_path.name, 0, [0])
        with pytest.raises(StaleRoute):
            write(late, SERIES[0], [(1000, 7.0)])
        late.close()
        (shard,) = host.host.readable(tmp_path.name, [(0, 2)])
        write(shard, SERIES[0], [(1000, 2.0)])
        assert rows(server, url, tmp_path.name) == 0
        assert rows(server, url, f"{tmp_path.name}@1") == 3
