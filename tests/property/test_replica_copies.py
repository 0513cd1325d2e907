"""Random writes and upkeep of a leader: its followers, from the start and joined in the middle, have what it has.

Of a shard that is fed by a stream each copy takes the messages from there, and only those that the topic has kept.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from leading_machine import WRITES, LeadingMachine
from shards import ALL_TIME, samples_of, shard_spec

from filoray.nodes.memstore.replica_entries import StreamedEntry, decode_entry, encode_entry
from filoray.nodes.memstore.store.copy_checksums import differences, stored_checksums
from filoray.nodes.memstore.store.snapshot import SnapshotFile


class ReplicaCopies(LeadingMachine):
    def begin(self):
        self.topic = {}
        """Messages by offset."""
        self.next_offset = 0
        self.copies = 0
        self.followers = []
        self.leader = self.new_shard()
        self.leader.on_entry = self.send
        self.followers.append(self.new_shard())

    def new_shard(self):
        self.copies += 1
        return self.open_shard(self.directory / str(self.copies))

    def send(self, entry):
        received = decode_entry(encode_entry(entry), "an entry")
        assert received == entry
        for follower in self.followers:
            self.follow(follower, received)

    def follow(self, follower, entry):
        messages = [self.topic[offset] for offset in entry.offsets] if isinstance(entry, StreamedEntry) else []
        follower.follow(entry, messages)

    def append(self, containers):
        offsets = None
        if self.is_streamed:
            offsets = [self.next_offset + 2 * index for index in range(len(containers))]  # what is between is no data
            self.next_offset = offsets[-1] + 2
            self.topic.update(zip(offsets, containers, strict=True))
        append_round = self.leader.begin_append(containers, self.calendar_ms, offsets)
        if append_round.entry is not None:
            self.send(append_round.entry)
        return self.leader.finish_append(append_round)

    # ---- what happens

    @rule()
    def follower_upkeep(self):
        for follower in self.followers:
            follower.follower_upkeep(self.now_ms)
            while follower.follower_upkeep(self.now_ms + 10):
                pass

    @precondition(lambda self: self.is_streamed)
    @rule()
    def the_topic_forgets_what_is_in_chunks(self):
        self.topic = {offset: data for offset, data in self.topic.items() if offset >= self.leader.resume_offset}

    @precondition(lambda self: len(self.followers) < 3)
    @rule(bytes_max=st.sampled_from([1, 500, 1 << 20]))
    def one_joins(self, bytes_max):
        self.copies += 1
        self.join(self.directory / str(self.copies), bytes_max)

    @precondition(lambda self: self.followers)
    @rule(bytes_max=st.sampled_from([1, 500, 1 << 20]), writes=WRITES)
    def one_joins_anew(self, bytes_max, writes):
        """It missed something."""
        follower = self.followers.pop(0)
        self.write(writes)
        self.upkeep()
        follower.close()
        self.join(follower.spec.path.parent, bytes_max)

    def join(self, folder, bytes_max):
        path = shard_spec(folder).path
        joining = SnapshotFile(path, self.epoch, "process")
        snapshot = self.leader.snapshot(self.now_ms, self.calendar_ms)
        held = joining.held()
        missed = []
        tell, self.leader.on_entry = self.leader.on_entry, lambda entry: (self.send(entry), missed.append(entry))
        for piece in snapshot.pieces(bytes_max, without=held):
            joining.add(piece)
            if len(missed) < 3:
                self.now_ms += 1
                self.leader.flush_all(self.now_ms, self.calendar_ms)
        snapshot.close()
        joining.install()
        self.leader.on_entry = tell
        self.followers.append(self.open_shard(folder))
        for entry in missed:
            self.follow(self.followers[-1], entry)

    @precondition(lambda self: self.followers)
    @rule()
    def one_leads(self):
        self.agree()
        self.leader.close()
        self.epoch += 1
        self.leader = self.followers.pop()
        self.leader.promote(self.epoch)
        self.leader.on_entry = self.send
        self.all_join_anew()

    @rule(max_future_ms=st.sampled_from([None, 100]))
    def the_leader_is_opened_anew(self, max_future_ms):
        """After a change of the configuration: samples of the future may be there that would not be taken now."""
        self.store["max_future_ms"] = max_future_ms
        self.epoch += 1
        self.leader.close()
        self.leader = self.open_shard(self.leader.spec.path.parent)
        for offset in sorted(offset for offset in self.topic if offset >= self.leader.resume_offset):
            self.leader.append([self.topic[offset]], [offset], self.calendar_ms)
        self.leader.on_entry = self.send
        self.all_join_anew()

    def all_join_anew(self):
        folders = [follower.spec.path.parent for follower in self.followers]
        for follower in self.followers:
            follower.close()
        self.followers = []
        for folder in folders:
            self.join(folder, 500)

    # ---- what must hold

    @invariant()
    def all_answer_the_same(self):
        if self.leader is not None:
            expected = samples_of(self.leader.select([], *ALL_TIME))
            for follower in self.followers:
                assert samples_of(follower.select([], *ALL_TIME)) == expected
                assert follower.stats().next_offset == self.leader.stats().next_offset
                assert follower.stream_offset == self.leader.stream_offset
                assert follower.stats().series == self.leader.stats().series
                assert follower.stats().buffered_samples == self.leader.stats().buffered_samples
                assert follower.figures().unflushed_samples == self.leader.figures().unflushed_samples

    def agree(self):
        leader = stored_checksums(self.leader.spec.path)
        for follower in self.followers:
            assert differences(leader, stored_checksums(follower.spec.path)) == []
            assert follower.damages == ()

    def end(self):
        self.leader.flush_all(self.now_ms, self.calendar_ms)
        self.all_answer_the_same()
        self.agree()
        for shard in [self.leader, *self.followers]:
            shard.close()


ReplicaCopies.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestReplicaCopies = ReplicaCopies.TestCase
