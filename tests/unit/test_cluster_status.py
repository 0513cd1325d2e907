"""``filoray status``: a table for people, JSON for programs, and why a shard waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from gateway_thread import GatewayThread

from filoray.cluster.cluster_view import ClusterView, DatasetView
from filoray.cluster.control.copy_set import CopySet
from filoray.cluster.errors import Unavailable
from filoray.command.cli import main

FIRST, SECOND = "akka://filo-server@127.0.0.1:2552", "akka://filo-server@127.0.0.1:2553"

NO_COPIES: dict[str, object] = {"copies": {}, "copies_missing": 0, "moves_to": ""}


@pytest.fixture
def gateway() -> Iterator[GatewayThread]:
    made = GatewayThread("shop")
    yield made
    made.stop()


def status(gateway: GatewayThread, directory: Path, *more: str) -> int:
    return main(["status", "--url", gateway.api.url, "--data-dir", str(directory), *more])


def test_programs_get_json(gateway: GatewayThread, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(gateway, tmp_path, "--json") == 0
    told = orjson.loads(capsys.readouterr().out)
    assert told == {
        "nodes": [
            {"address": FIRST, "shards": {"shop": [0, 3]}},
            {"address": SECOND, "shards": {"shop": [1]}},
        ],
        "datasets": {
            "shop": [
                {
                    "shard": 0,
                    "status": "ShardStatusActive",
                    "address": FIRST,
                    "why": "",
                    "copies": {},
                    "copies_missing": 0,
                    "moves_to": "",
                },
                {
                    "shard": 1,
                    "status": "ShardStatusRecovery(94)",
                    "address": SECOND,
                    "why": "active",
                    "copies": {},
                    "copies_missing": 0,
                    "moves_to": "",
                },
                {
                    "shard": 2,
                    "status": "ShardStatusDown",
                    "address": "",
                    "why": "active",
                    "copies": {},
                    "copies_missing": 0,
                    "moves_to": "",
                },
                {
                    "shard": 3,
                    "status": "ShardStatusActive",
                    "address": FIRST,
                    "why": "",
                    "copies": {},
                    "copies_missing": 0,
                    "moves_to": "",
                },
            ]
        },
        "supervision": None,
    }
    stories = [call for call in gateway.api.control.calls if call[0] == "story"]
    assert stories == [("story", "shop", 1), ("story", "shop", 2)], "of Active shards nobody is asked why"


def test_people_get_a_table_and_the_reasons_below_it(
    gateway: GatewayThread, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(gateway, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert rows == [
        ["0", "ShardStatusActive", FIRST],
        ["1", "ShardStatusRecovery(94)", SECOND],
        ["2", "ShardStatusDown", ""],
        ["3", "ShardStatusActive", FIRST],
    ]
    assert "shop shard 2: active" in lines
    assert not any("has no shards" in line for line in lines)


def test_copies_are_told_and_those_that_are_not_in_sync_named(
    gateway: GatewayThread, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.api.control.current = with_copies(gateway.api.control.current, 2)
    assert status(gateway, tmp_path, "--json") == 0
    shards = orjson.loads(capsys.readouterr().out)["datasets"]["shop"]
    assert [shard["copies"] for shard in shards[:2]] == [{"node-1": True}, {"node-0": False}]
    assert status(gateway, tmp_path) == 0
    out = capsys.readouterr().out
    assert "node-0 (not in sync)" in out
    assert "missing" not in "".join(line for line in out.splitlines() if "node-" in line)


def test_where_a_shard_moves_is_told_and_is_no_copy(
    gateway: GatewayThread, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.api.control.current = with_copies(gateway.api.control.current, 1)
    assert status(gateway, tmp_path, "--json") == 0
    shards = orjson.loads(capsys.readouterr().out)["datasets"]["shop"]
    assert [(shard["copies"], shard["moves_to"]) for shard in shards[:2]] == [({}, "node-1"), ({}, "node-0")]
    assert status(gateway, tmp_path) == 0
    out = capsys.readouterr().out
    assert "moves to node-1" in out
    assert "missing" not in out


def test_copies_that_no_node_has_a_place_for_are_counted(
    gateway: GatewayThread, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.api.control.current = with_copies(gateway.api.control.current, 4)
    assert status(gateway, tmp_path, "--json") == 0
    shards = orjson.loads(capsys.readouterr().out)["datasets"]["shop"]
    assert [shard["copies_missing"] for shard in shards[:2]] == [2, 2]
    assert status(gateway, tmp_path) == 0
    assert "2 missing" in capsys.readouterr().out


def with_copies(view: ClusterView, replicas: int) -> ClusterView:
    shop = view.datasets["shop"]
    first, second = (
        replace(entry, copies=CopySet(3, (follower,), in_sync))
        for entry, follower, in_sync in zip(
            shop.shard_map.shards[:2], ("node-1", "node-0"), (("node-0", "node-1"), ("node-1",)), strict=True
        )
    )
    copied = DatasetView(replace(shop.config, num_replicas=replicas), shop.shard_map.with_entries([first, second]))
    return replace(view, datasets={"shop": copied})


def test_a_node_that_owns_nothing_is_named(
    gateway: GatewayThread, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def members() -> list[str]:
        return [FIRST, SECOND, "akka://filo-server@127.0.0.1:2554"]

    monkeypatch.setattr(gateway.api.control, "members", members)
    assert status(gateway, tmp_path) == 0
    assert "akka://filo-server@127.0.0.1:2554 has no shards" in capsys.readouterr().out


def test_what_stories_tell_is_not_needed_for_the_rest(
    gateway: GatewayThread, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(dataset: str, shard: int) -> list[str]:
        raise Unavailable("the coordinator is not there")

    monkeypatch.setattr(gateway.api.control, "story", story)
    assert status(gateway, tmp_path) == 0
    assert "shop shard 1: not known now: the coordinator is not there" in capsys.readouterr().out
