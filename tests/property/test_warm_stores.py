"""Random writes and upkeep of a shard that others keep warm: whoever leads next answers what the store answers."""

from __future__ import annotations

import shutil
from collections import deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from leading_machine import WRITES, LeadingMachine
from shards import ALL_TIME, samples_of

from filoray.cluster.errors import StaleRoute
from filoray.nodes.memstore.replica_entries import decode_entry, encode_entry
from filoray.nodes.memstore.shard import Shard
from filoray.nodes.memstore.store.store_errors import CopyDiffers
from filoray.nodes.memstore.store.warm_store import SnapshotRows


class WarmNode:
    """``coming``: entries on their way to it."""

    def __init__(self, shard):
        self.shard = shard
        self.coming = deque()

    def take(self, count):
        """Raises CopyDiffers: its session is over then."""
        while self.coming and count:
            data = self.coming.popleft()
            self.shard.follow(decode_entry(data, "an entry"))
            count -= 1


class WarmStores(LeadingMachine):
    def begin(self):
        self.warm = []
        self.stale = []
        """Nodes whose leader is gone: nothing comes to them any more, but they may be told to lead."""
        self.took_over_warm = 0
        self.leader = self.open_shard(self.directory)
        self.leader.on_entry = self.send

    def send(self, entry):
        for node in self.warm:
            node.coming.append(encode_entry(entry))

    # ---- who keeps it warm

    @precondition(lambda self: len(self.warm) < 2)
    @rule(bytes_max=st.sampled_from([1, 500, 1 << 20]), writes=WRITES)
    def one_joins(self, bytes_max, writes):
        snapshot = self.leader.snapshot(self.now_ms, self.calendar_ms)
        missed = []
        tell, self.leader.on_entry = self.leader.on_entry, lambda entry: (self.send(entry), missed.append(entry))
        rows = SnapshotRows("a shard")
        for piece in snapshot.pieces(bytes_max, with_data=False):
            rows.add(piece)
            if len(missed) < 2:
                self.now_ms += 1
                self.leader.flush_all(self.now_ms, self.calendar_ms)
        snapshot.close()
        self.leader.on_entry = tell
        node = WarmNode(Shard.keep_warm(self.spec(self.directory), rows))
        node.coming.extend(map(encode_entry, missed))
        self.warm.append(node)
        self.write(writes)

    @precondition(lambda self: self.warm)
    @rule(count=st.integers(1, 8))
    def entries_come(self, count):
        for node in tuple(self.warm):
            try:
                node.take(count)
            except CopyDiffers:  # it had to read a chunk that is gone by now
                self.drop(node)

    @precondition(lambda self: self.warm)
    @rule()
    def all_entries_come(self):
        self.entries_come(-1)

    @rule()
    def upkeep_of_the_warm(self):
        for node in (*self.warm, *self.stale):
            while node.shard.follower_upkeep(self.now_ms + 10):
                pass

    @precondition(lambda self: self.warm)
    @rule()
    def one_is_dropped(self):
        self.drop(self.warm[0])

    def drop(self, node):
        self.warm.remove(node)
        node.shard.close()

    # ---- who leads next

    @precondition(lambda self: self.warm)
    @rule()
    def it_moves(self):
        """In order: the owner tells all, and stops."""
        self.all_entries_come()
        if self.warm:
            assert self.lead_next(self.warm[0]), "nothing was missed"

    @precondition(lambda self: self.warm)
    @rule()
    def the_leader_dies(self):
        self.lead_next(self.warm[0])

    @precondition(lambda self: self.warm)
    @rule()
    def the_leader_is_taken_for_dead(self):
        former = self.leader
        self.lead_next(self.warm[0], lives=True)
        with pytest.raises(StaleRoute):
            former.flush_all(self.now_ms, self.calendar_ms)
        former.close()

    @precondition(lambda self: self.warm)
    @rule(writes=WRITES)
    def another_leads_for_a_while(self, writes):
        """And those who kept it warm are not told, until one of them is to lead."""
        self.leader.close()
        self.stale, self.warm = [*self.stale, *self.warm], []
        self.open_anew()
        self.write(writes)

    @precondition(lambda self: self.stale)
    @rule()
    def one_leads_that_was_not_told(self):
        node = self.stale[0]
        self.warm.append(node)
        assert not self.lead_next(node), "it followed another epoch"

    def lead_next(self, node, *, lives=False):
        """Whether it did with what it had in memory; all others keep it warm no more. ``lives``: the former leader."""
        before = self.answer(self.leader)
        unlike_replay = set(self.leader._memory.unlike_replay)
        if not lives:
            self.leader.close()
        self.epoch += 1
        others = [it for it in (*self.warm, *self.stale) if it is not node]
        self.warm, self.stale = [], []
        for other in others:
            other.shard.close()
        try:
            node.shard.promote(self.epoch)
        except CopyDiffers:
            node.shard.close()
            self.open_anew()
            is_warm = False
        else:
            self.leader = node.shard
            self.leader.on_entry = self.send
            self.took_over_warm += 1
            is_warm = True
        if is_warm or not unlike_replay:
            assert self.answer(self.leader) == before
        if not self.leader._memory.unlike_replay:
            self.check_store()
        return is_warm

    def open_anew(self):
        self.epoch += 1
        self.leader = self.open_shard(self.directory)
        self.leader.on_entry = self.send

    # ---- what must hold

    @staticmethod
    def answer(shard):
        found = samples_of(shard.select([], *ALL_TIME))
        return found, shard.stats().next_offset, shard.stats().series

    def check_store(self):
        """A shard that is opened from the same store answers the same."""
        folder = self.directory / "copied"
        folder.mkdir(exist_ok=True)
        for path in self.directory.glob("shard-3.*"):
            shutil.copy(path, folder)
        (folder / "shard-3.db-shm").unlink(missing_ok=True)
        fresh = Shard.open(self.spec(folder))
        assert self.answer(fresh) == self.answer(self.leader)
        assert fresh.damages == ()
        fresh.close()
        shutil.rmtree(folder)

    def end(self):
        for node in (*self.warm, *self.stale):
            node.shard.close()
        self.leader.flush_all(self.now_ms, self.calendar_ms)
        self.check_store()
        self.leader.close()


WarmStores.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestWarmStores = WarmStores.TestCase
