"""What a shard acknowledges, answers and refuses."""

import numpy as np
import pytest
from shards import ALL_TIME, NOW_MS, STALE_NAN, STORE, bits, container, matching, read, samples_of, shard_spec, write

from filoray.cluster.errors import BadData, LimitExceeded, StaleRoute, Unavailable
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.write_outcome import RefusalReason, UnknownSeries
from filoray.nodes.memstore.shard import Shard

UP = {"__name__": "up", "job": "api", "instance": "a:9100"}


@pytest.fixture
def shard(tmp_path):
    opened = Shard.open(shard_spec(tmp_path))
    yield opened
    opened.close()


def reopen(shard: Shard, epoch: int = 2) -> Shard:
    """As after a kill: the old one is just left."""
    spec = shard.spec
    return Shard.open(type(spec)(spec.dataset, spec.shard, epoch, spec.path, spec.store))


class TestWriting:
    def test_samples_come_back_in_order_with_their_labels(self, shard):
        result = write(shard, UP, [(1000, 1.0), (2000, 0.0), (3000, STALE_NAN)])
        assert (result.accepted, result.refused_count) == (3, 0)
        batch = shard.select(matching(name_="up"), 1001, 3000)
        assert samples_of(batch) == {tuple(sorted(UP.items())): [(2000, bits(0.0)), (3000, bits(STALE_NAN))]}

    def test_a_series_that_is_not_known_needs_its_part_key(self, shard):
        write(shard, UP, [(1000, 1.0)])
        other = {**UP, "instance": "b:9100"}
        result = shard.append([container([(UP, [(2000, 1.0)]), (other, [(2000, 1.0)])], with_keys=False)])[0]
        assert isinstance(result, UnknownSeries)
        assert result.series.tolist() == [1]
        assert read(shard, UP) == [(1000, 1.0)]

    def test_one_commit_takes_keys_that_a_later_container_leaves_out(self, shard):
        results = shard.append([container([(UP, [(1, 1.0)])]), container([(UP, [(2, 2.0)])], with_keys=False)])
        assert [result.accepted for result in results] == [1, 1]
        assert read(shard) == [(1, 1.0), (2, 2.0)]

    def test_the_same_series_twice_in_one_container(self, shard):
        result = shard.append([container([(UP, [(1, 1.0)]), (UP, [(2, 2.0)])])])[0]
        assert (result.accepted, read(shard)) == (2, [(1, 1.0), (2, 2.0)])

    def test_a_part_key_with_another_hash_is_refused_and_nothing_of_the_commit_stays(self, shard):
        good = container([(UP, [(1, 1.0)])])
        bad = bytearray(container([({"__name__": "x"}, [(1, 1.0)])]))
        bad[-1] ^= 1  # the last byte of the key
        with pytest.raises(BadData, match="hash"):
            shard.append([good, bytes(bad)])
        assert shard.stats().series == 0
        assert write(shard, UP, [(1, 1.0)]).accepted == 1

    def test_extreme_times_keep_apart(self, tmp_path):
        shard = Shard.open(shard_spec(tmp_path, max_future_ms=None))
        times = [ALL_TIME[0] + 1, -1, 0, 1, 1 << 40, ALL_TIME[1]]
        assert write(shard, UP, [(time, float(i)) for i, time in enumerate(times)]).accepted == 6
        assert [time for time, _ in read(shard)] == times
        shard.flush_all(NOW_MS)
        assert [time for time, _ in read(shard)] == times


class TestOldAndDoubleSamples:
    """The table of what may be written where; the same whether samples are buffered, sealed, flushed or reopened."""

    def prepare(self, shard, state):
        write(shard, UP, [(t, float(t)) for t in range(0, 2_000_000, 10_000)])
        if state in ("flushed", "reopened"):
            shard.flush_all(NOW_MS)
        return reopen(shard) if state in ("reopened", "replayed") else shard

    @pytest.mark.parametrize("state", ["buffered", "flushed", "reopened", "replayed"])
    @pytest.mark.parametrize(
        ("time", "value", "accepted", "too_old", "different"),
        [
            (1_990_000, 1_990_000.0, 1, 0, 0),
            (1_990_000, 7.0, 0, 0, 1),
            (1_990_000, STALE_NAN, 0, 0, 1),
            (10_000, 10_000.0, 1, 0, 0),
            (10_000, 7.0, 0, 0, 1),
            (1_985_000, 7.0, 1, 0, 0),
            (1_390_001, 7.0, 1, 0, 0),
            (1_389_999, 7.0, 0, 1, 0),
            (-5, 7.0, 0, 1, 0),
            (1_990_001, 7.0, 1, 0, 0),
        ],
    )
    def test_what_is_there_is_a_no_op_else_the_window_decides(
        self, shard, state, time, value, accepted, too_old, different
    ):
        tested = self.prepare(shard, state)
        before = read(tested)
        result = write(tested, UP, [(time, value)])
        refused = result.refused.get(RefusalReason.TOO_OLD, 0), result.refused.get(RefusalReason.DIFFERENT_VALUE, 0)
        assert (result.accepted, *refused) == (accepted, too_old, different)
        assert bool(result.example) == bool(result.refused_count)
        if result.refused_count:
            assert f"at {time} ms" in result.example
            assert 'up{instance="a:9100", job="api"}' in result.example
            assert read(tested) == before
        else:
            assert read(tested) == sorted({**dict(before), time: value}.items())
        tested.close()

    @pytest.mark.parametrize("flush", [False, True])
    def test_samples_of_the_window_in_any_order(self, shard, flush):
        rng = np.random.default_rng(3)
        times = np.arange(0, 600_000, 2_000)
        write(shard, UP, [(600_000, -1.0)])
        if flush:
            shard.flush_all(NOW_MS)
        for part in np.array_split(rng.permutation(times), 9):
            assert write(shard, UP, [(int(t), float(t)) for t in part]).accepted == len(part)
        assert read(shard) == [*[(int(t), float(t)) for t in times], (600_000, -1.0)]
        assert read(shard, None, 100_000, 103_999) == [(100_000, 100_000.0), (102_000, 102_000.0)]

    def test_a_late_time_twice_in_one_request_keeps_the_first_value(self, shard):
        write(shard, UP, [(500_000, 1.0)])
        shard.flush_all(NOW_MS)
        result = write(shard, UP, [(400_000, 1.0), (400_000, 2.0), (400_000, 1.0)])
        assert (result.accepted, result.refused.get(RefusalReason.DIFFERENT_VALUE, 0)) == (2, 1)
        assert read(shard) == [(400_000, 1.0), (500_000, 1.0)]


class TestLimits:
    def test_new_series_past_the_limit_are_refused_while_old_ones_go_on(self, tmp_path):
        shard = Shard.open(shard_spec(tmp_path, max_series_per_shard=1))
        write(shard, UP, [(1, 1.0)])
        result = shard.append([container([(UP, [(2, 2.0)]), ({"__name__": "new"}, [(2, 2.0), (3, 3.0)])])])[0]
        assert (result.accepted, result.refused.get(RefusalReason.OVER_LIMIT, 0)) == (1, 2)
        assert "max-series-per-shard" in result.example
        assert "new{}" in result.example
        assert shard.stats().series == 1

    def test_labels_of_refused_series_leave_no_trace(self, tmp_path):
        shard = Shard.open(shard_spec(tmp_path, max_series_per_shard=2))
        write(shard, UP, [(1, 1.0)])
        memory_bytes = []
        for request in range(50):
            ids = [{"__name__": "m", f"name{request}": "x", "id": f"{request}-{i}"} for i in range(40)]
            result = shard.append([container([*[(labels, [(request, 1.0)]) for labels in ids], (UP, [(9, 9.0)])])])[0]
            assert result.refused.get(RefusalReason.OVER_LIMIT, 0) == 40 - (request == 0)
            memory_bytes.append(shard.stats().memory_bytes)
            found = shard.select([LabelMatcher("id", MatchOp.REGEX, ".*-.*")], *ALL_TIME)
            assert [row["id"] for row in found.labels.label_sets()] == ["0-0"]
        assert memory_bytes[-1] <= memory_bytes[5]
        assert shard.label_names([], *ALL_TIME) == ["__name__", "id", "instance", "job", "name0"]

    @pytest.mark.parametrize("containers", [1, 20])
    def test_labels_have_room_for_so_many_bytes_of_text(self, tmp_path, containers):
        shard = Shard.open(shard_spec(tmp_path, label_bytes_max=100_000))
        write(shard, UP, [(1, 1.0)])
        common = {"__name__": "m", "shared": "s" * 30_000}
        series = [({**common, "i": str(i), "own": f"{i}" * 3_000}, [(1, 1.0)]) for i in range(10, 30)]
        parts = [container(series[at::containers]) for at in range(containers)]
        results = shard.append(parts)
        assert sum(result.accepted for result in results) == 11, "30,000 bytes are shared, 6,000 of each its own"
        assert sum(result.refused.get(RefusalReason.OVER_LIMIT, 0) for result in results) == 9
        (example, *_) = [result.example for result in results if result.refused_count]
        assert "max-label-size-per-shard = 100000 allows no more" in example
        assert shard.stats().memory_bytes < 400_000
        assert (
            shard.append([container([({**common, "i": "10", "own": "10" * 3_000}, [(2, 2.0)]), (UP, [(2, 2.0)])])])[
                0
            ].accepted
            == 2
        ), "known series go on"
        assert Shard.open(shard_spec(tmp_path, epoch=2, label_bytes_max=1 << 16)).stats().series == 12

    def test_label_texts_of_forgotten_series_make_room(self, tmp_path):
        shard = Shard.open(shard_spec(tmp_path, label_bytes_max=70_000))
        assert write(shard, {"long": "a" * 50_000}, [(1, 1.0)]).accepted == 1
        shard.flush_all(NOW_MS)
        assert write(shard, {"long": "b" * 50_000}, [(1, 1.0)]).refused.get(RefusalReason.OVER_LIMIT, 0) == 1
        while shard.upkeep(NOW_MS + STORE.disk_time_to_live_ms):
            pass
        assert write(shard, {"long": "b" * 50_000}, [(1, 1.0)]).accepted == 1

    @pytest.mark.parametrize(
        ("limits", "accepted"),
        [({"max_workspace_series_per_shard": 2}, 3), ({"max_namespace_series_per_shard": 1}, 3)],
    )
    def test_limits_per_workspace_and_namespace(self, tmp_path, limits, accepted):
        spec = shard_spec(tmp_path, **limits)
        names = [("w", "a"), ("w", "b"), ("w", "b"), ("v", "a")]
        series = [({"__name__": f"m{i}", "_ws_": ws, "_ns_": ns}, [(1, 1.0)]) for i, (ws, ns) in enumerate(names)]
        shard = Shard.open(spec)
        result = shard.append([container(series)])[0]
        assert (result.accepted, result.refused.get(RefusalReason.OVER_LIMIT, 0)) == (accepted, 4 - accepted)
        assert "_ws_ 'w'" in result.example
        again = Shard.open(shard_spec(tmp_path, epoch=2, **limits))
        assert again.append([container(series)])[0].refused.get(RefusalReason.OVER_LIMIT, 0) == 4 - accepted

    def test_a_query_that_reads_too_many_chunk_bytes_is_refused(self, tmp_path):
        shard = Shard.open(shard_spec(tmp_path, max_data_per_shard_query_bytes=10))
        write(shard, UP, [(t, t * 0.1) for t in range(100)])
        assert len(read(shard)) == 100
        shard.flush_all(NOW_MS)
        with pytest.raises(LimitExceeded, match="max-data-per-shard-query allows 10"):
            read(shard)


class TestOwners:
    def test_an_owner_with_a_lower_epoch_can_neither_commit_nor_flush_nor_open(self, shard):
        write(shard, UP, [(1, 1.0)])
        successor = reopen(shard, epoch=5)
        with pytest.raises(StaleRoute, match="epoch 1"):
            write(shard, UP, [(2, 2.0)])
        with pytest.raises(StaleRoute):
            shard.flush_all(NOW_MS)
        with pytest.raises(StaleRoute, match="epoch 5"):
            reopen(shard, epoch=4)
        assert read(shard) == [(1, 1.0)]
        assert read(successor) == [(1, 1.0)]
        assert write(successor, UP, [(2, 3.0)]).accepted == 1

    def test_deleting_removes_every_file(self, tmp_path):
        shard = Shard.open(shard_spec(tmp_path / "prom"))
        write(shard, UP, [(1, 1.0)])
        shard.delete()
        assert list((tmp_path / "prom").iterdir()) == []


class TestStreamOffsets:
    def test_samples_with_offsets_are_checkpointed_and_replayed_ones_passed_over(self, shard):
        shard.append([container([(UP, [(1, 1.0)])]), container([(UP, [(2, 2.0)])])], offsets=[40, 41])
        assert (shard.resume_offset, shard.stats().log_bytes) == (0, 0)
        shard.flush_all(NOW_MS)
        assert shard.resume_offset == 42
        shard.append([container([(UP, [(3, 3.0)])])], offsets=[42])
        again = reopen(shard)
        assert (again.resume_offset, read(again)) == (42, [(1, 1.0), (2, 2.0)])
        again.append([container([(UP, [(2, 9.0)])]), container([(UP, [(3, 3.0)])])], offsets=[41, 42])
        assert read(again) == [(1, 1.0), (2, 2.0), (3, 3.0)]

    def test_what_could_not_be_applied_is_checkpointed_by_no_flush(self, shard, monkeypatch):
        shard.append([container([(UP, [(t, float(t)) for t in range(0, 90, 10)])])], offsets=[7])
        shard.flush_all(NOW_MS)
        for batch in list(shard._memory.resident):
            shard._memory.drop_resident(batch)

        def unreadable(batch_id, pieces):
            raise Unavailable("the store is away")

        late = container([(UP, [(35, 35.0)])])
        monkeypatch.setattr(shard._store, "read_pieces", unreadable)
        with pytest.raises(Unavailable, match="away"):
            shard.append([late, container([(UP, [(90, 90.0)])])], offsets=[8, 9])
        shard.flush_all(NOW_MS)
        assert shard.resume_offset == 8
        monkeypatch.undo()
        shard.append([late, container([(UP, [(90, 90.0)])])], offsets=[8, 9])
        shard.flush_all(NOW_MS)
        assert shard.resume_offset == 10
        assert [time for time, _ in read(shard)] == [0, 10, 20, 30, 35, 40, 50, 60, 70, 80, 90]


class TestLabels:
    @pytest.fixture
    def filled(self, shard):
        shard.append(
            [
                container(
                    [
                        ({"__name__": "a", "job": "x", "zone": "1"}, [(1000, 1.0)]),
                        ({"__name__": "a", "job": "y"}, [(5000, 1.0)]),
                        ({"__name__": "b", "job": "x-1", "host": "ü\nz"}, [(1000, 1.0), (5000, 2.0)]),
                    ]
                )
            ]
        )
        return shard

    def test_names_and_values_of_series_that_match_and_live_in_the_range(self, filled):
        assert filled.label_names([], *ALL_TIME) == ["__name__", "host", "job", "zone"]
        assert filled.label_names([matching(name_="a")], *ALL_TIME) == ["__name__", "job", "zone"]
        assert filled.label_names([], 4000, 5000) == ["__name__", "host", "job"]
        assert filled.label_values("job", [], *ALL_TIME) == ["x", "x-1", "y"]
        assert filled.label_values("job", [matching(name_="a"), matching(name_="b")], 0, 1000) == ["x", "x-1"]
        assert filled.label_values("none", [], *ALL_TIME) == []
        assert filled.label_values("job", [], *ALL_TIME, 2) == ["x", "x-1"]
        assert filled.label_table([matching(job="y")], *ALL_TIME).label_sets() == [{"__name__": "a", "job": "y"}]
        with pytest.raises(LimitExceeded, match="3 series match"):
            filled.label_table([], *ALL_TIME, limit=2)

    @pytest.mark.parametrize(
        ("op", "name", "value", "jobs"),
        [
            (MatchOp.EQUAL, "zone", "", "y x-1"),
            (MatchOp.NOT_EQUAL, "zone", "", "x"),
            (MatchOp.NOT_EQUAL, "zone", "1", "y x-1"),
            (MatchOp.REGEX, "job", "x|y|q", "x y"),
            (MatchOp.REGEX, "job", "x.*", "x x-1"),
            (MatchOp.REGEX, "job", "x.+", "x-1"),
            (MatchOp.REGEX, "job", "[xy]", "x y"),
            (MatchOp.REGEX, "job", r"x\-1", "x-1"),
            (MatchOp.REGEX, "zone", ".*", "x y x-1"),
            (MatchOp.REGEX, "zone", ".+", "x"),
            (MatchOp.REGEX, "zone", "1|", "x y x-1"),
            (MatchOp.REGEX, "zone", "2|", "y x-1"),
            (MatchOp.NOT_REGEX, "zone", "2|", "x"),
            (MatchOp.NOT_REGEX, "zone", ".+", "y x-1"),
            (MatchOp.NOT_REGEX, "job", "x.*", "y"),
            (MatchOp.REGEX, "host", "ü.z", "x-1"),
            (MatchOp.REGEX, "absent", "a|b", ""),
            (MatchOp.NOT_REGEX, "absent", "a|b", "x y x-1"),
            (MatchOp.EQUAL, "absent", "", "x y x-1"),
            (MatchOp.EQUAL, "absent", "v", ""),
        ],
    )
    def test_matchers_take_an_absent_label_for_the_empty_value(self, filled, op, name, value, jobs):
        found = filled.select([LabelMatcher(name, op, value)], *ALL_TIME)
        assert [labels["job"] for labels in found.labels.label_sets()] == jobs.split()

    def test_a_pattern_that_re2_refuses_is_bad_data(self, filled):
        with pytest.raises(BadData, match="missing"):
            filled.select([LabelMatcher("job", MatchOp.REGEX, "a(")], *ALL_TIME)

    def test_cardinality_counts_series_by_labels(self, filled):
        groups, counts = filled.cardinality(["__name__"])
        assert dict(zip([row["__name__"] for row in groups.label_sets()], counts, strict=True)) == {"a": 2, "b": 1}
