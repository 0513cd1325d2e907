"""Every label name and every (name, value) pair of a shard, once, with small numbers in their place.

A *pair* is what a part key is made of: its bytes there (lengths and texts of name and value) are its
identity here, so that most labels of a new series are recognised without decoding them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from filoray.cluster.errors import BadData
from filoray.nodes.data.part_key import decode_label, encode_label
from filoray.nodes.memstore.growing_column import GrowingColumn


class LabelDictionary:
    """``pair_name`` and ``pair_code`` int32: a pair's name id and its value's index in ``values[name id]``."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.values: list[list[str]] = []
        self.pairs_of_name: list[array[int]] = []
        self.pair_name = GrowingColumn(np.int32)
        self.pair_code = GrowingColumn(np.int32)
        self.pair_count = 0
        self._name_ids: dict[str, int] = {}
        self._pair_ids: dict[bytes, int] = {}
        self.text_bytes = 0
        """Of all pairs, as part keys have them."""

    def name_id(self, name: str) -> int | None:
        return self._name_ids.get(name)

    def pair_id(self, name: str, value: str) -> int | None:
        try:
            return self._pair_ids.get(encode_label(name, value))
        except BadData:  # it is in no part key
            return None

    def pair_text(self, pair: int) -> tuple[str, str]:
        name = int(self.pair_name.data[pair])
        return self.names[name], self.values[name][int(self.pair_code.data[pair])]

    def pair_bytes(self, pair: int) -> int:
        return len(encode_label(*self.pair_text(pair)))

    def intern(self, pairs: Sequence[bytes]) -> list[int]:
        """Pair ids, new where a pair was not seen before. Raises UnicodeDecodeError if a new one is not UTF-8."""
        known = self._pair_ids
        ids: list[int] = []
        for pair in pairs:
            found = known.get(pair)
            ids.append(self._add(pair) if found is None else found)
        return ids

    def truncate(self, pair_count: int) -> None:
        """Forget the pairs added last, and names that only they have: no series came of them."""
        for pair in range(self.pair_count - 1, pair_count - 1, -1):
            name_id = int(self.pair_name.data[pair])
            encoded = encode_label(self.names[name_id], self.values[name_id].pop())
            self.pairs_of_name[name_id].pop()
            del self._pair_ids[encoded]
            self.text_bytes -= len(encoded)
            if not self.values[name_id]:  # a name comes with its first pair, so this is the newest name
                del self._name_ids[self.names.pop()], self.values[-1], self.pairs_of_name[-1]
        self.pair_count = min(self.pair_count, pair_count)

    @property
    def nbytes(self) -> int:
        """An estimate: texts twice (bytes and str), dictionary and list entries."""
        return 2 * self.text_bytes + 240 * self.pair_count + self.pair_name.nbytes + self.pair_code.nbytes

    def _add(self, pair: bytes) -> int:
        name, value = decode_label(pair)
        name_id = self._name_ids.get(name)
        if name_id is None:
            name_id = self._name_ids[name] = len(self.names)
            self.names.append(name)
            self.values.append([])
            self.pairs_of_name.append(array("i"))
        pair_id = self.pair_count
        self.pair_name.reserve(pair_id + 1)
        self.pair_code.reserve(pair_id + 1)
        self.pair_name.data[pair_id] = name_id
        self.pair_code.data[pair_id] = len(self.values[name_id])
        self.values[name_id].append(value)
        self.pairs_of_name[name_id].append(pair_id)
        self.pair_count += 1
        self._pair_ids[pair] = pair_id
        self.text_bytes += len(pair)
        return pair_id
