"""How soon gateways are told of a change: at once in a small cluster, in batches where there is much to tell."""

from __future__ import annotations

import pytest

from filoray.cluster.config.dataset import parse_for_cluster
from filoray.cluster.config.server_config import default_server_config
from filoray.cluster.control.coordinator_effects import Effect, PushView, Remind
from filoray.cluster.control.coordinator_events import Moment, Started, ViewRefused
from filoray.cluster.control.membership import Membership, MembershipLimits
from filoray.cluster.control.patience import Patience
from filoray.cluster.control.shard_manager import ShardManager
from filoray.cluster.control.shard_messages import DatasetSetUp
from filoray.cluster.control.turn import Turn
from filoray.cluster.control.view_board import ViewBoard
from filoray.cluster.data_plane_keys import KeyPair

TEXT = (
    'dataset = "d", num-shards = {shards}, min-num-nodes = 1, sourceconfig {{}}, '
    'sourcefactory = "filoray.nodes.streams.LogStreamFactory"'
)
LIMITS = MembershipLimits(1000, 1000, 100, 100, 1, 1000)


class Desk:
    def __init__(self, shards: int, gateways: int) -> None:
        self.turn = Turn(1, Moment(0, 0))
        manager = ShardManager()
        manager.handle(DatasetSetUp(parse_for_cluster(default_server_config(), "d", TEXT.format(shards=shards))), 0)
        membership = Membership(["node-0"], LIMITS, 0)
        self.board = ViewBoard(self.turn, manager, membership, 1, KeyPair(b"", b""), Patience())
        self.board.expect(f"gateway-{index}" for index in range(gateways))

    def effects(self, now_ms: int) -> list[Effect]:
        effects = self.turn.end()
        self.turn.begin(Started(), Moment(now_ms, now_ms))
        return effects


@pytest.mark.parametrize(
    ("shards", "gateways", "pause_ms"), [(4, 3, 0), (128, 10, 0), (1024, 100, 5), (1024, 1000, 51), (1024, 9000, 250)]
)
def test_a_change_after_a_view_waits_as_long_as_there_is_to_tell(shards: int, gateways: int, pause_ms: int) -> None:
    desk = Desk(shards, gateways)
    desk.effects(now_ms=1000)
    desk.board.changed()
    assert [effect.delay_ms for effect in desk.effects(now_ms=1000) if isinstance(effect, Remind)] == [0]
    desk.board.publish_due()
    assert sum(isinstance(effect, PushView) for effect in desk.effects(now_ms=1000)) == gateways
    desk.board.changed()
    desk.board.changed()
    assert [effect.delay_ms for effect in desk.effects(now_ms=1000 + pause_ms) if isinstance(effect, Remind)] == [
        pause_ms
    ]
    desk.board.publish_due()
    desk.effects(now_ms=2000)
    desk.board.changed()
    assert [effect.delay_ms for effect in desk.effects(now_ms=2000) if isinstance(effect, Remind)] == [0], "it was calm"


def test_a_gateway_that_was_let_go_and_is_expected_again_is_left_alone_after_a_failure_too() -> None:
    desk = Desk(shards=4, gateways=2)
    desk.board.changed()
    desk.board.publish()
    desk.board.expect(("gateway-0",))
    desk.effects(now_ms=1000)
    desk.board.refused(ViewRefused("gateway-1", desk.board.view.version, "it is gone"))
    desk.board.expect(("gateway-0", "gateway-1"))
    desk.board.changed()
    desk.board.publish()
    assert not [effect for effect in desk.effects(now_ms=1010) if isinstance(effect, PushView)]
    desk.board.gateway_due("gateway-1")
    assert [effect.gateway for effect in desk.effects(now_ms=2000) if isinstance(effect, PushView)] == ["gateway-1"]


def test_a_gateway_that_is_gone_is_asked_no_more() -> None:
    desk = Desk(shards=4, gateways=1)
    desk.board.changed()
    desk.board.publish()
    desk.board.expect(())
    desk.board.refused(ViewRefused("gateway-0", desk.board.view.version, "it is gone"))
    desk.board.gateway_due("gateway-0")
    desk.effects(now_ms=1000)
    desk.board.changed()
    desk.board.publish()
    assert not [effect for effect in desk.effects(now_ms=2000) if isinstance(effect, PushView)]
