"""Entries from a leader to its followers: what comes back is what was sent, or an error."""

import struct

import pytest

from filoray.cluster.errors import BadData
from filoray.nodes.memstore.replica_entries import (
    CommitEntry,
    DeadSeriesEntry,
    DropEntry,
    FlushEntry,
    SealEntry,
    StreamedBatch,
    StreamedEntry,
    decode_entry,
    encode_entry,
)
from filoray.nodes.memstore.store.checked_bytes import seal
from filoray.nodes.memstore.store.column_store import Commit, LogRow
from filoray.nodes.memstore.store.log_record import NEVER_SHUT_MS
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

CLOCK = ClockReading(1, -2, 3, 1 << 62)
ENTRIES = [
    CommitEntry(Commit(b"keys", LogRow(7, b"log" * 1000), 5, 8)),
    CommitEntry(Commit(None, LogRow(0, b"x"), 0, 1)),
    CommitEntry(Commit(b"k", None, 1, 0)),
    FlushEntry((0, 2), CLOCK, None, (-1, 5, 1 << 40), 6, (), 9, (1 << 64) - 1),
    FlushEntry((), CLOCK, 64, (3,) * 64, 0, (1, 2, 3), None, 0),
    SealEntry((1,)),
    StreamedEntry(None, (StreamedBatch(17, (1 << 64) - 1, 3, NEVER_SHUT_MS),), 1, 99),
    StreamedEntry(Commit(b"keys", None, 9, 0), tuple([StreamedBatch(i, i, i, -i) for i in range(99)]), 1 << 40, 7),
    StreamedEntry(Commit(None, None, 9, 0), (), 0, 0),
    DropEntry((4, 5), CLOCK),
    DeadSeriesEntry(tuple(range(1000)), 1001),
    DeadSeriesEntry((), 7),
]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_arrives_as_it_was_sent(entry):
    assert decode_entry(encode_entry(entry), "it") == entry


@pytest.mark.parametrize("entry", ENTRIES)
def test_any_changed_or_missing_byte_is_noticed(entry):
    sent = encode_entry(entry)
    for at in range(0, len(sent), max(1, len(sent) // 50)):
        with pytest.raises(DamagedStore, match=r"entry 3: checksum does not match"):
            decode_entry(sent[:at] + bytes([sent[at] ^ 16]) + sent[at + 1 :], "entry 3")
        with pytest.raises(DamagedStore, match="entry 3"):
            decode_entry(sent[:at], "entry 3")


FLUSH_FIELDS = struct.pack("<qqqqqqqQIII4x", *[0] * 11)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "0 bytes are no entry"),
        (struct.pack("<BB6x", 1, 1), "written in version 1"),
        (struct.pack("<BB6x", 2, 0), "an entry of kind 0"),
        (struct.pack("<BB6x", 2, 7), "an entry of kind 7"),
        (struct.pack("<BB6x", 2, 6), "no entry of kind 6"),
        (struct.pack("<BB6xqqq", 2, 6, 2, 0, 0) + b"1234" * 8, "56 bytes, too few for 2 batches"),
        (struct.pack("<BB6xqqq", 2, 6, -1, 0, 0) + b"1234" * 8, "too few for -1 batches"),
        (struct.pack("<BB6xqqq", 2, 6, 0, 0, 0) + b"1234", "no entry of kind 6"),
        (struct.pack("<BB6x", 2, 1), "no entry of kind 1"),
        (struct.pack("<BB6xqqqII", 2, 1, 0, 0, 0, 3, 4) + b"xyz", "3 bytes of rows, where 3 and 4 belong"),
        (struct.pack("<BB6x", 2, 2) + FLUSH_FIELDS[:-1], "no entry of kind 2"),
        (struct.pack("<BB6x", 2, 2) + FLUSH_FIELDS + b"12345678", "1 numbers, where 0 belong"),
        (struct.pack("<BB6x", 2, 3) + b"123", "no entry of kind 3"),
        (struct.pack("<BB6x", 2, 4) + b"12345678", "no entry of kind 4"),
        (struct.pack("<BB6x", 2, 5) + b"123456789", "no entry of kind 5"),
        (struct.pack("<BB6x", 2, 5), "no entry of kind 5"),
    ],
)
def test_what_another_format_wrote_is_refused(body, problem):
    with pytest.raises(BadData, match=f"it: .*{problem}"):
        decode_entry(seal(body), "it")
