"""The series of one shard: from part key hash to partition id, and from label matchers to partition ids.

A *partition id* is a series' place in this process's columns (0, 1, 2, ... without gaps); a *series id* is
its number on disk, never used twice. Label sets are kept as numbers of (name, value) pairs, postings as
one bitmap for each pair; both are built in bulk. Times, samples and locks are the shard's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from filoray.cluster.errors import BadData
from filoray.nodes.data.label_table import LabelColumn, LabelTable
from filoray.nodes.data.matching import LabelMatcher, MatchOp
from filoray.nodes.data.part_key import encode_label, split_part_keys
from filoray.nodes.kernels.storage.dense_codes import compacted
from filoray.nodes.kernels.storage.hash_index import find_partitions, insert_partitions
from filoray.nodes.kernels.storage.label_columns import LabelPairs, fill_codes, mark_names
from filoray.nodes.memstore.growing_column import GrowingColumn
from filoray.nodes.memstore.label_dictionary import LabelDictionary
from filoray.nodes.memstore.label_matching import RegexMatches, accepts_absent, literals_of, value_test
from filoray.nodes.memstore.lock_turns import Breathe, no_breath

Partitions = NDArray[np.int32]
_FIRST_SLOTS = 256
_PIECE_VALUES = 512
_PIECE_SETS = 4096
_NO_SERIES = BitMap()


def _union(sets: Iterable[BitMap], breathe: Breathe) -> BitMap:
    """A new set; ``sets`` are looked up as they are needed."""
    union = BitMap()
    while piece := list(islice(sets, _PIECE_SETS)):
        union |= BitMap.union(*piece)
        breathe()
    return union


class PartKeyIndex:
    def __init__(self) -> None:
        self.count = 0
        self.generation = 0
        """Grows when series get other numbers, or their numbers may be given to others."""
        self.labels = LabelDictionary()
        self.series_ids = GrowingColumn(np.int64)
        self._high = GrowingColumn(np.uint64)
        self._low = GrowingColumn(np.uint64)
        self._slots: NDArray[np.int32] = np.full(_FIRST_SLOTS, -1, np.int32)
        self._pair_offsets = GrowingColumn(np.int64)
        self._pair_ids = GrowingColumn(np.int32)
        self._postings: list[BitMap | None] = []
        self._present: list[BitMap] = []
        self._indexed_count = 0
        self._regexes = RegexMatches()
        self._value_tuples: dict[int, tuple[str, ...]] = {}

    # ---- series

    def find(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> tuple[Partitions, int]:
        """Partition ids int32[n] of n part key hashes, -1 where unknown, and how many are unknown."""
        partitions = np.empty(len(low), np.int32)
        missing = find_partitions(high, low, self._slots, self._high.data, self._low.data, partitions)
        return partitions, missing

    def split(self, keys: Sequence[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Pair ids of all keys, flat, and how many each key has. Raises BadData if one is not a part key."""
        labels, label_counts = split_part_keys(keys)
        try:
            return np.array(self.labels.intern(labels), np.int32), label_counts
        except UnicodeDecodeError as error:
            raise BadData(f"part key: a label is not UTF-8: {error}") from error

    def add(
        self,
        pair_ids: NDArray[np.int32],
        pair_counts: NDArray[np.int64],
        high: NDArray[np.uint64],
        low: NDArray[np.uint64],
        series_ids: NDArray[np.int64],
    ) -> Partitions:
        """Enter series that are not in the index; returns their new partition ids, which follow each other."""
        first, end = self.count, self.count + len(pair_counts)
        pairs_before = int(self._pair_offsets.data[first])
        self._pair_ids.write(pairs_before, pair_ids)
        self._pair_offsets.write(first + 1, pairs_before + np.cumsum(pair_counts))
        self._high.write(first, high)
        self._low.write(first, low)
        self.series_ids.write(first, series_ids)
        self.count = end
        if 2 * end > len(self._slots):
            self._rebuild_slots()
        else:
            insert_partitions(self._slots, self._low.data, first, end)
        return np.arange(first, end, dtype=np.int32)

    def truncate(self, count: int, pair_count: int) -> None:
        """Forget the series and label pairs added last (their commit failed)."""
        self.generation += 1
        if self._indexed_count > count:
            for members in (*self._postings, *self._present):
                if members is not None:
                    members.remove_range(count, self._indexed_count)
            self._indexed_count = count
        if self.count > count:
            self.count = count
            self._rebuild_slots()
        if self.labels.pair_count > pair_count:
            self.labels.truncate(pair_count)
            self._regexes.clear()
            self._value_tuples.clear()

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Forget the series outside the mask bool[count]; the others move up, in order."""
        old_count, old_offsets, old_ids = self.count, self._pair_offsets.data, self._pair_ids.data
        pair_counts = np.diff(old_offsets[: old_count + 1])
        kept_pairs = np.repeat(kept, pair_counts)
        texts = self.labels
        pair_ids = old_ids[: len(kept_pairs)][kept_pairs]
        # The dictionary is made anew, so that texts of forgotten series go too.
        used = np.unique(pair_ids)
        fresh = PartKeyIndex()
        names = [texts.pair_text(int(pair)) for pair in used]
        renumbered = np.array(fresh.labels.intern([encode_label(*pair) for pair in names]), np.int32)
        for column in (self._high, self._low, self.series_ids):
            column.keep(old_count, kept)
        fresh.add(
            renumbered[np.searchsorted(used, pair_ids)] if len(used) else pair_ids,
            pair_counts[kept],
            self._high.data[: int(kept.sum())],
            self._low.data[: int(kept.sum())],
            self.series_ids.data[: int(kept.sum())],
        )
        fresh.generation = self.generation + 1
        self.__dict__.update(fresh.__dict__)

    def part_key(self, partition: int) -> bytes:
        return b"".join(encode_label(*pair) for pair in self._label_pairs(partition))

    def label_set(self, partition: int) -> dict[str, str]:
        return dict(self._label_pairs(partition))

    def _label_pairs(self, partition: int) -> list[tuple[str, str]]:
        offsets = self._pair_offsets.data
        return [
            self.labels.pair_text(pair)
            for pair in self._pair_ids.data[offsets[partition] : offsets[partition + 1]].tolist()
        ]

    def _rebuild_slots(self) -> None:
        size = _FIRST_SLOTS
        while size < 2 * self.count:
            size *= 2
        if 2 * self.count == size:
            size *= 2
        self._slots = np.full(size, -1, np.int32)
        insert_partitions(self._slots, self._low.data, 0, self.count)

    # ---- matching

    def select(self, matchers: Sequence[LabelMatcher], breathe: Breathe = no_breath) -> Partitions:
        """Partition ids, ascending, of the series that all matchers accept.

        ``breathe`` is called at every step: other threads may add series meanwhile; it raises if they did more.
        """
        self._index_new_series()
        count = self.count  # of later series nobody has asked all matchers
        found: BitMap | None = None
        for matcher in matchers:
            breathe()
            accepted, inverted = self._accepted(matcher, breathe)
            if found is None:  # a set of its own, as those of the index grow
                found = (BitMap(range(count)) - accepted) if inverted else BitMap(accepted)
            else:
                found = (found - accepted) if inverted else (found & accepted)
            if not found:
                return np.empty(0, np.int32)
        if found is None:
            return np.arange(count, dtype=np.int32)
        if self.count > count:
            found.remove_range(count, self.count)
        return np.frombuffer(found.to_array(), np.uint32).astype(np.int32)

    def _accepted(self, matcher: LabelMatcher, breathe: Breathe) -> tuple[BitMap, bool]:
        """A set of partitions and whether it is those that the matcher refuses."""
        name_id = self.labels.name_id(matcher.name)
        takes_absent = accepts_absent(matcher)
        if name_id is None:
            return BitMap(), takes_absent
        if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
            chosen = self._present[name_id] if matcher.value == "" else self._posting(matcher.name, matcher.value)
            # name="" refuses exactly those that have it; name!="" accepts exactly those.
            return chosen, takes_absent
        values = self.labels.values[name_id]
        literals = literals_of(matcher.value)
        if literals is not None:
            postings = (self._posting(matcher.name, literal) for literal in literals if literal)
            matched = _union(postings, breathe)
        else:
            codes = self._matching_codes(name_id, matcher.value, values, breathe)
            if len(codes) == len(values):
                matched = self._present[name_id]
            else:
                pairs = self.labels.pairs_of_name[name_id]
                indexed = len(self._postings)
                matched = _union(
                    (self._postings[pairs[code]] or _NO_SERIES for code in codes.tolist() if pairs[code] < indexed),
                    breathe,
                )
        matches_absent = takes_absent if matcher.op is MatchOp.REGEX else not takes_absent
        if matches_absent:
            # Matches series without the label as well: name what it does not match instead.
            return self._present[name_id] - matched, matcher.op is MatchOp.REGEX
        return matched, matcher.op is MatchOp.NOT_REGEX

    def _matching_codes(self, name_id: int, pattern: str, values: Sequence[str], breathe: Breathe) -> NDArray[np.int32]:
        """Of all ``values``; what is new since the pattern was last asked for is tried in pieces."""
        checked = self._regexes.checked_count(name_id, pattern)
        if len(values) - checked > _PIECE_VALUES:
            accepts = value_test(pattern)
            # Its own list: what is remembered may be forgotten during any breath.
            found = [self._regexes.matching_codes(name_id, pattern, values[:checked])] if checked else []
            end = len(values)  # those that come meanwhile are few
            while checked < end:
                piece = values[checked : min(end, checked + _PIECE_VALUES)]
                found.append(np.array([code for code, value in enumerate(piece, checked) if accepts(value)], np.int32))
                checked += len(piece)
                breathe()
            self._regexes.remember(name_id, pattern, accepts, checked, np.concatenate(found))
        return self._regexes.matching_codes(name_id, pattern, values)

    def _posting(self, name: str, value: str) -> BitMap:
        pair = self.labels.pair_id(name, value)
        return BitMap() if pair is None or pair >= len(self._postings) else self._postings[pair] or BitMap()

    def _index_new_series(self) -> None:
        first, end = self._indexed_count, self.count
        if first == end:
            return
        self._postings += [None] * (self.labels.pair_count - len(self._postings))
        while len(self._present) < len(self.labels.names):
            self._present.append(BitMap())
        offsets = self._pair_offsets.data[first : end + 1]
        pairs = self._pair_ids.data[offsets[0] : offsets[-1]]
        owners = np.repeat(np.arange(first, end, dtype=np.uint32), np.diff(offsets))
        self._extend(self._postings, pairs, owners)
        self._extend(self._present, self.labels.pair_name.data[pairs], owners)
        self._indexed_count = end

    @staticmethod
    def _extend(
        bitmaps: list[BitMap | None] | list[BitMap], ids: NDArray[np.int32], owners: NDArray[np.uint32]
    ) -> None:
        order = np.argsort(ids, kind="stable")
        ids, owners = ids[order], owners[order]
        starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else np.empty(0, np.int64)
        bounds = [*starts.tolist(), len(ids)]
        for i, bitmap_id in enumerate(ids[starts].tolist()):
            members = BitMap(owners[bounds[i] : bounds[i + 1]])
            old = bitmaps[bitmap_id]
            if old is None:
                bitmaps[bitmap_id] = members
            else:
                old |= members

    # ---- labels

    def _pairs(self) -> LabelPairs:
        labels = self.labels
        return LabelPairs(self._pair_offsets.data, self._pair_ids.data, labels.pair_name.data, labels.pair_code.data)

    def label_table(self, partitions: Partitions) -> LabelTable:
        """Label sets of the series, in their order."""
        name_ids = self.names_of(partitions)
        name_row = np.full(len(self.labels.names), -1, np.int32)
        name_row[name_ids] = np.arange(len(name_ids), dtype=np.int32)
        codes = np.full((len(name_ids), len(partitions)), -1, np.int32)
        fill_codes(partitions, self._pairs(), name_row, codes)
        return LabelTable(
            len(partitions),
            {self.labels.names[name]: self._column(int(name), codes[row]) for row, name in enumerate(name_ids)},
        )

    def names_of(self, partitions: Partitions) -> NDArray[np.int64]:
        """Ids of the label names that these series have, sorted by name."""
        used = np.zeros(len(self.labels.names), np.uint8)
        mark_names(partitions, self._pairs(), used)
        return np.array(sorted(np.flatnonzero(used).tolist(), key=self.labels.names.__getitem__), np.int64)

    def values_of(self, name: str, partitions: Partitions) -> list[str]:
        """Distinct values of a label among these series, sorted."""
        name_id = self.labels.name_id(name)
        if name_id is None:
            return []
        name_row = np.full(len(self.labels.names), -1, np.int32)
        name_row[name_id] = 0
        codes = np.full((1, len(partitions)), -1, np.int32)
        fill_codes(partitions, self._pairs(), name_row, codes)
        return sorted(value for value in self._compact(name_id, codes[0]).values)

    def _column(self, name_id: int, codes: NDArray[np.int32]) -> LabelColumn:
        values = self.labels.values[name_id]
        if len(values) > 2 * len(codes):
            return self._compact(name_id, codes)
        whole = self._value_tuples.get(name_id)
        if whole is None or len(whole) != len(values):
            whole = self._value_tuples[name_id] = tuple(values)
        return LabelColumn(whole, codes)

    def _compact(self, name_id: int, codes: NDArray[np.int32]) -> LabelColumn:
        """Only the values that occur."""
        values = self.labels.values[name_id]
        used, dense = compacted(codes)
        return LabelColumn(tuple([values[code] for code in used.tolist()]), dense)

    @property
    def nbytes(self) -> int:
        """Columns exactly, dictionary and postings estimated."""
        columns = (self.series_ids, self._high, self._low, self._pair_offsets, self._pair_ids)
        return (
            sum(column.nbytes for column in columns)
            + int(self._slots.nbytes)
            + self.labels.nbytes
            + self._regexes.nbytes
            + 120 * len(self._postings)
            + 4 * int(self._pair_offsets.data[self.count])
        )
