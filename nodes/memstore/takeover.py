"""A node that kept a shard warm takes its store over, and goes on with what it has in memory if that is all of it."""

from __future__ import annotations

import logging

from filoray.nodes.memstore.following import Following
from filoray.nodes.memstore.replica_entries import CommitEntry
from filoray.nodes.memstore.shard_spec import ShardSpec
from filoray.nodes.memstore.store.column_store import ColumnStore, Commit
from filoray.nodes.memstore.store.store_choice import open_column_store
from filoray.nodes.memstore.store.store_errors import CopyDiffers
from filoray.nodes.memstore.store.warm_store import WarmStore

logger = logging.getLogger(__name__)


def take_over(warm: WarmStore, spec: ShardSpec, followed_epoch: int, following: Following) -> ColumnStore:
    """The store, opened at the epoch of ``spec``, so that nobody who had it before writes any more.

    What its former owner wrote last, and could not tell, is in its log: it is followed from there.

    Raises CopyDiffers if the store is not what was followed, and what opening it raises.
    """
    if spec.column_store_url is None and not spec.path.exists():  # opening it here would make one, and hide that
        raise CopyDiffers(f"{spec.name}: {spec.path} is gone")
    store = open_column_store(spec)
    try:
        warm.check_may_go_on(store.state, followed_epoch)
        known = warm.state
        missed = list(store.log_after(known.next_offset - 1))
        for row in missed:
            following.follow(CommitEntry(Commit(None, row, known.next_series_id, row.offset + 1)), ())
        warm.check_is_as(store.state)
    except BaseException:
        store.close()
        raise
    logger.info("%s: taken over warm; %d rows of its log had not come", spec.name, len(missed))
    return store
