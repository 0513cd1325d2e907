"""Scenarios' texts: every form is read, and what is wrong is named with line, word and what would be right."""

from __future__ import annotations

import pytest
from scenario_files import FILES

from filoray.cluster.chaos.actions import (
    Cut,
    Direction,
    Every,
    ExpectNode,
    ExpectShard,
    Hang,
    JumpClock,
    Kill,
    LoseDisk,
    Part,
    SetUp,
    StartShard,
    StartWriting,
    Target,
    Wait,
)
from filoray.cluster.chaos.language import FORMS, Form, parse_deed, parse_scenario
from filoray.cluster.chaos.worlds import PLAYED, Need, Stage, Word, World, refusals, word_of
from filoray.cluster.control.shard_status import StatusKind
from filoray.cluster.errors import BadData

HEAD = "nodes 3\ndataset one shards 4 min-nodes 2 replicas 2\n"
SLOT_EXAMPLES = {
    "NODE": "2", "SHARD": "3", "NODES": "3", "SHARDS": "4", "CLIENTS": "2", "RATE": "100", "DURATION": "500ms",
    "STATUS": "Active", "NAME": "other", "REPLICAS": "2",
}  # fmt: skip


def example(form: Form) -> str:
    return " ".join(SLOT_EXAMPLES.get(word, word) for word in form.words)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.text)
def test_every_form_is_read_and_belongs_to_a_word_of_the_table(form: Form) -> None:
    scenario = parse_scenario(HEAD + example(form))
    assert scenario.steps[-1].text == example(form)
    assert word_of(scenario.steps[-1].action) in PLAYED


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("kill node 2", Kill(Target(Part.NODE, 2))),
        ("hang coordinator", Hang(Target(Part.COORDINATOR))),
        ("kill raylet", Kill(Target(Part.RAYLET))),
        ("cut node 1 from coordinator", Cut(Target(Part.NODE, 1))),
        ("cut node 1 from coordinator one way", Cut(Target(Part.NODE, 1), Direction.FROM_TARGET)),
        ("cut coordinator from node 1 one way", Cut(Target(Part.NODE, 1), Direction.TO_TARGET)),
        ("jump clock 2h behind", JumpClock(-7_200_000)),
        ("start shard 3 on node 1", StartShard("one", 3, 1)),
        ("write 400 samples/s with 4 writers", StartWriting("one", 400, 4)),
        ("expect shard 3 Active within 2s  # a comment", ExpectShard("one", 3, StatusKind.ACTIVE, 2000)),
        ("expect node 1 away within 5m", ExpectNode(1, is_up=False, within_ms=300_000)),
        ("every 10s for 5m: kill node 0", Every(10_000, 300_000, Kill(Target(Part.NODE, 0)))),
        ("every 10s for 5m: random fault", Every(10_000, 300_000, None)),
        ("every 1s for 1s : stop shard 1", Every(1000, 1000, parse_scenario(HEAD + "stop shard 1").steps[-1].action)),
        ("wait 3s", Wait(3000)),
        ("lose disk of node 1", LoseDisk(1)),
        ("dataset two shards 8 min-nodes 1 replicas 3", SetUp("two", 8, 1, 3)),
    ],
)
def test_a_line_means(text: str, action: object) -> None:
    assert parse_scenario(HEAD + text).steps[-1].action == action


def test_lines_speak_of_the_data_set_that_was_named_last() -> None:
    scenario = parse_scenario(HEAD + "dataset two shards 8 min-nodes 1\nstop shard 7")
    assert [step.action for step in scenario.steps][:2] == [SetUp("one", 4, 2, 2), SetUp("two", 8, 1)]
    assert scenario.steps[-1].action.dataset == "two"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: there is no step; a scenario begins with `nodes 3`"),
        ("kill node 1", "line 1: 'kill' cannot stand there; nodes can"),
        ("nodes none", "line 1: 'none' cannot stand there; how many nodes (1 to 64) can"),
        (
            "nodes 3\nkill everything",
            "line 2: 'everything' cannot stand there; node or gateway or coordinator or seed or",
        ),
        (
            "nodes 3\n\n# well\nkill node",
            "line 4: it ends too early: a node's or gateway's number (0 to 63) must follow",
        ),
        ("nodes 3\nkill node 3", "line 2: there is no number 3: the scenario has 3 nodes, counted from 0"),
        ("nodes 3\nkill node 1 now", "line 2: 'now' cannot stand there; the end of the line can"),
        ("nodes 3\ndestroy", "line 2: 'destroy' cannot stand there; kill or hang or resume or cut or heal or slow or"),
        ("nodes 3\nwait 5", "line 2: '5' cannot stand there; a duration up to 24h, such as 500ms, 5s, 10m can"),
        ("nodes 3\nwait 25h", "line 2: '25h' cannot stand there; a duration up to 24h"),
        ("nodes 3\nstop shard 1", "line 2: no data set was set up before (dataset NAME shards N min-nodes N)"),
        (HEAD + "expect shard 1 Fine within 2s", "line 3: 'Fine' cannot stand there; a status (Unassigned, Assigned,"),
        (HEAD + "every 10s for 1s: kill node 0", "line 3: what comes after `every` must be above 0 and not above"),
        (HEAD + "every 1s for 9s kill node 0", "line 3: 'kill' cannot stand there; : can"),
        (
            HEAD + "every 1s for 9s: wait 1s",
            "line 3: 'wait' cannot be repeated; a fault, an order or `random fault` can",
        ),
        (HEAD + "every 1s for 9s: expect all Active within 1s", "line 3: 'expect' cannot be repeated"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(BadData) as raised:
        parse_scenario(text)
    assert raised.value.message.startswith(said)


def test_a_deed_is_done_to_a_cluster() -> None:
    with pytest.raises(BadData, match="'wait 3s' is nothing that is done to a cluster"):
        parse_deed("wait 3s")


@pytest.mark.parametrize("word", Word)
@pytest.mark.parametrize("world", World)
def test_a_word_is_refused_in_a_world_for_a_reason_or_not_at_all(word: Word, world: World) -> None:
    played = PLAYED[word]
    wholly = Stage(world, {}, has_own_machines=True)
    assert wholly.refusal(word) == (played.simulated if world is World.SIMULATED else played.real)
    if world is World.REAL and played.need is not None:
        assert Stage(world, {played.need: "there is none"}).refusal(word) == "there is none"


def test_what_cannot_be_played_is_refused_with_line_and_reason() -> None:
    scenario = parse_scenario(HEAD + "fill disk\nevery 1s for 2s: jump clock 1h ahead\nslow disk 10ms")
    assert refusals(scenario, Stage(World.REAL, {Need.SMALL_DISK: "nothing can be mounted"})) == [
        "line 3: `fill disk` cannot be played by a real cluster: nothing can be mounted",
        "line 4: `every 1s for 2s: jump clock 1h ahead` cannot be played by a real cluster: all processes of this "
        "machine, not this cluster's alone, have one calendar",
        "line 5: `slow disk 10ms` cannot be played by a real cluster: no disk can be made slow for these processes "
        "alone without a risk for others",
    ]
    assert refusals(scenario, Stage(World.SIMULATED, {})) == []


def test_a_disk_can_be_lost_where_nodes_have_copies_of_their_own() -> None:
    lost = "\nlose disk of node 1"
    with pytest.raises(BadData, match="line 3: no data set with replicas was set up before"):
        parse_scenario("nodes 2\ndataset d shards 4 min-nodes 2" + lost)
    scenario = parse_scenario("nodes 2\ndataset d shards 4 min-nodes 2 replicas 2" + lost)
    assert [step.action for step in scenario.steps] == [SetUp("d", 4, 2, 2), LoseDisk(1)]


def test_nodes_that_share_a_machine_cannot_be_cut_off() -> None:
    text = "nodes 2{}\ncut node 1 from coordinator"
    together, apart = (parse_scenario(text.format(end)) for end in ("", " on machines of their own"))
    assert len(refusals(together, Stage(World.SIMULATED, {}, together.has_own_machines))) == 1
    assert refusals(apart, Stage(World.SIMULATED, {}, apart.has_own_machines)) == []
    assert [line[:6] for line in refusals(apart, Stage(World.REAL, {}))] == ["line 1", "line 2"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_scenario_begins_with_a_page_of_words(path) -> None:
    text = path.read_text()
    comment = text.partition("\nnodes ")[0]
    assert all(line.startswith("#") or not line for line in comment.splitlines())
    for heading in ("# What is broken:", "# What you should see:", "# Why it must be so:"):
        assert heading in comment
    assert parse_scenario(text).steps[-2:]
