"""What a follower is behind by, in samples and bytes."""

from __future__ import annotations

import numpy as np

from filoray.nodes.host.replication.entry_sizes import EntrySizes
from filoray.nodes.memstore.replica_entries import CommitEntry, SealEntry, StreamedEntry
from filoray.nodes.memstore.store.column_store import Commit, LogRow
from filoray.nodes.memstore.store.log_record import LogRecord, encode_log_record, samples_in


def row(*sample_counts: int) -> bytes:
    """A log row with so many samples of one series in each record."""
    records = [
        LogRecord(np.array([7]), np.array([count], np.int32), np.arange(count), np.ones(count))
        for count in sample_counts
    ]
    return b"".join(map(encode_log_record, records))


def written(*sample_counts: int, part_keys: bytes | None = None) -> CommitEntry:
    return CommitEntry(Commit(part_keys, LogRow(0, row(*sample_counts)), 1, 1))


def test_a_row_says_how_many_samples_it_has() -> None:
    for counts in ((1,), (3, 1, 40), (1000,)):
        assert samples_in(row(*counts)) == sum(counts)


def test_what_was_written_after_an_entry_counts_until_all_have_it() -> None:
    sizes = EntrySizes()
    sizes.made(2, written(3, part_keys=b"12345"))
    sizes.made(3, SealEntry((0,)))
    sizes.made(4, written(1, 2))
    assert sizes.after(1) == (6, len(row(3)) + 5 + len(row(1, 2)))
    assert sizes.after(3) == (3, len(row(1, 2)))
    sizes.made(5, StreamedEntry(None, (), sample_count=7, byte_count=70))
    assert sizes.after(4) == (7, 70), "of a stream the messages count"
    sizes = EntrySizes()
    sizes.made(2, written(3, part_keys=b"12345"))
    sizes.made(4, written(1, 2))
    sizes.stored((2, 4))
    assert sizes.after(0) == (3, len(row(1, 2))), "the first entry is with all of them"
    sizes.stored(())
    assert sizes.after(0) == (0, 0), "nobody has a copy that could be behind"
