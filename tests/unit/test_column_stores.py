"""What any column store keeps to, over both of them; and how PostgreSQL's fares when server or network fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cut_proxy import Cut, CutProxy
from postgres_server import PostgresServer, running_postgres

from filoray.cluster.errors import StaleRoute, StoreIsAhead, Unavailable
from filoray.nodes.memstore.store.column_store import ChunkBatchRow, ColumnStore, Commit, Flush, LogRow, PartKeyRow
from filoray.nodes.memstore.store.sqlite_column_store import SqliteColumnStore
from filoray.nodes.memstore.store.store_errors import DamagedStore
from filoray.nodes.memstore.upkeep.retention_clock import ClockReading

OpenStore = Callable[..., ColumnStore]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def database(server: PostgresServer) -> str:
    """The URL of one database for all tests: each has a data set of its own."""
    return server.new_database()


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """``open_store(epoch, shard=0)``; what it opened is closed at the end."""
    opened: list[ColumnStore] = []

    def open_one(epoch: int = 1, shard: int = 0, group_count: int = 4, *, was_open: bool = False) -> ColumnStore:
        if request.param == "sqlite":
            path = tmp_path / f"shard-{shard}.db"
            store: ColumnStore = SqliteColumnStore(path, epoch, "process", group_count, was_open=was_open)
        else:
            url = request.getfixturevalue("database")
            store = postgres_store(url, tmp_path.name, epoch, shard, group_count, was_open=was_open)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


def postgres_store(
    url: str, dataset: str, epoch: int = 1, shard: int = 0, group_count: int = 4, *, was_open: bool = False
):
    from filoray.nodes.memstore.store.sql_column_store import SqlColumnStore

    return SqlColumnStore(url, dataset, shard, epoch, group_count, was_open=was_open)


def log_commit(offset: int, data: bytes = b"samples", part_keys: bytes | None = None) -> Commit:
    return Commit(part_keys, LogRow(offset, data), next_series_id=offset + 10, next_offset=offset + 1)


def batch(batch_id: int, data: bytes = b"chunks") -> ChunkBatchRow:
    return ChunkBatchRow(batch_id, 1000 + batch_id, b"meta %d" % batch_id, data)


def log_of(store: ColumnStore, after: int = -1) -> list[tuple[int, bytes]]:
    return [(row.offset, row.data) for row in store.log_after(after)]


class TestAnyStore:
    def test_a_new_store_is_empty(self, open_store):
        store = open_store(group_count=7)
        state = store.state
        assert (state.is_new, state.group_count, state.next_series_id, state.next_offset) == (True, 7, 0, 0)
        assert (dict(state.checkpoints), state.log_bytes, store.trouble) == ({}, 0, None)
        assert (list(store.part_keys()), list(store.batch_metas()), log_of(store)) == ([], [], [])

    def test_what_was_open_and_is_not_there_is_not_made_anew(self, open_store):
        for _ in range(2):
            with pytest.raises(DamagedStore, match="open before"):
                open_store(3, was_open=True)
        open_store(3).commit(log_commit(0))
        assert len(log_of(open_store(4, was_open=True))) == 1

    def test_the_clock_and_the_next_batch_are_there_for_the_next_owner(self, open_store):
        store = open_store(1)
        assert (store.state.clock, store.state.next_batch_id) == (None, 1)
        for reading in (ClockReading(5, 6), ClockReading(1 << 41, 2, 3, 4)):
            store.flush(Flush(clock=reading))
        store.flush(Flush(batches=[batch(7), batch(9)]))
        state = open_store(2).state
        assert (state.clock, state.next_batch_id) == (ClockReading(1 << 41, 2, 3, 4), 10)

    def test_commits_are_there_for_the_next_owner(self, open_store):
        first = open_store(1)
        first.commit(log_commit(0, b"a\x00\xff" * 1000, b"keys"))
        first.commit(Commit(b"more keys", None, next_series_id=30, next_offset=1))
        second = open_store(2, group_count=9)
        state = second.state
        assert (state.is_new, state.group_count, state.next_series_id, state.next_offset) == (False, 4, 30, 1)
        assert state.log_bytes == 3000
        assert log_of(second) == [(0, b"a\x00\xff" * 1000)]
        assert [row.data for row in second.part_keys()] == [b"keys", b"more keys"]

    def test_a_long_log_is_read_in_order_from_any_offset(self, open_store):
        store = open_store()
        for offset in range(150):
            store.commit(log_commit(offset, b"%d" % offset))
        assert log_of(store, 20) == [(offset, b"%d" % offset) for offset in range(21, 150)]

    def test_a_flush_moves_everything_at_once(self, open_store):
        store = open_store()
        for offset in range(4):
            store.commit(log_commit(offset, part_keys=b"keys %d" % offset))
        rows = list(store.part_keys())
        store.flush(Flush(batches=[batch(1)]))
        store.flush(
            Flush(
                batches=[batch(2), batch(3, b"x" * 100_000)],
                checkpoints={0: 2, 3: 1},
                log_end=1,
                dropped_batches=[1],
                dropped_part_keys=[rows[0].row_id, rows[2].row_id],
                new_part_keys=[b"merged"],
                next_offset=9,
            )
        )
        store.flush(Flush(checkpoints={3: 2}, next_offset=5))
        again = open_store(2)
        assert dict(again.state.checkpoints) == {0: 2, 3: 2}
        assert again.state.next_offset == 9
        assert [offset for offset, _ in log_of(again)] == [2, 3]
        assert list(again.batch_metas()) == [(2, 1002, b"meta 2"), (3, 1003, b"meta 3")]
        kept = [row.data for row in again.part_keys()]
        assert kept == [b"keys 1", b"keys 3", b"merged"]
        again.commit(log_commit(9, part_keys=b"after"))
        assert [row.data for row in again.part_keys()] == [*kept, b"after"]

    def test_a_new_group_count_replaces_the_checkpoints(self, open_store):
        store = open_store()
        store.flush(Flush(checkpoints={0: 5, 1: 6, 2: 7, 3: 8}))
        store.flush(Flush(group_count=2, checkpoints={0: 5, 1: 5}))
        state = open_store(2).state
        assert (state.group_count, dict(state.checkpoints)) == (2, {0: 5, 1: 5})

    def test_batches_are_read_whole_and_in_pieces(self, open_store):
        store = open_store()
        data = bytes(range(256)) * 2000
        store.flush(Flush(batches=[batch(1, data), batch(2, b"")]))
        assert store.read_batch(1) == data
        pieces = [(0, 3), (511_000, 1000), (70_000, 40_000), (70_000, 1), (5, 0)]
        assert store.read_pieces(1, pieces) == [data[place : place + length] for place, length in pieces]
        assert (store.read_batch(2), store.read_pieces(2, [(0, 4)]), store.read_pieces(1, [])) == (b"", [b""], [])
        assert (store.read_batch(3), store.read_pieces(3, [(0, 1)]), store.read_pieces(3, [])) == (None, None, None)

    def test_shards_are_apart(self, open_store):
        first, second = open_store(1, shard=0), open_store(1, shard=1)
        first.commit(log_commit(0, b"first", b"keys"))
        second.flush(Flush(batches=[batch(1)], log_end=100, dropped_part_keys=[1]))
        assert (log_of(first), log_of(second)) == ([(0, b"first")], [])
        assert len(list(first.part_keys())) == 1
        assert first.read_batch(1) is None

    def test_a_woken_up_owner_changes_nothing(self, open_store):
        old = open_store(1)
        old.commit(log_commit(0, part_keys=b"keys"))
        new = open_store(2)
        for change in (
            lambda: old.commit(log_commit(1, part_keys=b"keys")),
            lambda: old.flush(Flush(batches=[batch(1)], log_end=0, dropped_part_keys=[1], next_offset=50)),
        ):
            with pytest.raises(StaleRoute, match="epoch 1"):
                change()
        new.commit(log_commit(1, b"the new owner's"))
        assert log_of(new) == [(0, b"samples"), (1, b"the new owner's")]
        assert (len(list(new.part_keys())), new.read_batch(1)) == (1, None)

    def test_an_earlier_owner_cannot_open_it_any_more(self, open_store):
        new = open_store(5)
        with pytest.raises(StaleRoute, match=r"epoch 5.*epoch 4"):
            open_store(4)
        new.commit(log_commit(0))
        open_store(5).commit(log_commit(1))

    def test_deleting_leaves_nothing_and_no_other_shard_behind(self, open_store):
        kept, gone = open_store(1, shard=0), open_store(1, shard=1)
        for store in (kept, gone):
            store.commit(log_commit(0, part_keys=b"keys"))
            store.flush(Flush(batches=[batch(1)], checkpoints={0: 0}))
        gone.delete()
        again = open_store(3, shard=1)
        assert (again.state.is_new, again.state.next_offset, dict(again.state.checkpoints)) == (True, 0, {})
        assert (list(again.part_keys()), log_of(again), again.read_batch(1)) == ([], [], None)
        assert (len(log_of(kept)), kept.read_batch(1)) == (1, b"chunks")

    def test_of_two_owners_that_race_only_the_later_one_acknowledges_in_the_end(self, open_store):
        acknowledged: list[int] = []
        old = open_store(1)
        is_running = threading.Event()

        def commit_until_fenced() -> None:
            for offset in range(100_000):
                try:
                    old.commit(log_commit(offset))
                except StaleRoute:
                    return
                acknowledged.append(offset)
                is_running.set()

        thread = threading.Thread(target=commit_until_fenced)
        thread.start()
        assert is_running.wait(20)
        new = open_store(2)
        at_opening = [offset for offset, _ in log_of(new)]
        assert new.state.next_offset == len(at_opening)
        thread.join(20)
        assert not thread.is_alive()
        # All it acknowledged, and not one more: what the new owner found at opening is all there will ever be.
        assert acknowledged == at_opening == [offset for offset, _ in log_of(new)]

    def test_it_answers_readers_while_it_is_changed(self, open_store):
        store = open_store()
        data = b"0123456789" * 1000
        store.flush(Flush(batches=[batch(1, data)]))
        with ThreadPoolExecutor(8) as readers:
            answers = [readers.submit(store.read_pieces, 1, [(i, 10)]) for i in range(100)]
            for offset in range(20):
                store.commit(log_commit(offset))
            assert [answer.result() for answer in answers] == [[data[i : i + 10]] for i in range(100)]

    def test_an_owner_that_is_promoted_goes_on_under_the_later_epoch(self, open_store):
        store = open_store(epoch=2)
        store.commit(log_commit(0))
        with pytest.raises(StoreIsAhead) as refused:
            store.promote(1)
        assert refused.value.stored_epoch == 2
        store.promote(5)
        store.commit(log_commit(1))
        with pytest.raises(StoreIsAhead):
            open_store(epoch=4)
        later = open_store(epoch=5)
        assert [offset for offset, _ in log_of(later)] == [0, 1]

    @pytest.mark.parametrize("epoch", [1, 3, 4])
    def test_an_owner_that_lost_the_store_is_not_promoted(self, open_store, epoch):
        store = open_store(epoch=1)
        open_store(epoch=3).commit(log_commit(0))
        with pytest.raises(StaleRoute):
            store.promote(epoch)
        with pytest.raises(StaleRoute):
            store.commit(log_commit(1))
        assert open_store(epoch=3).state.next_offset == 1


def test_what_is_read_of_a_file_after_it_was_closed_is_to_be_asked_of_the_next_owner(tmp_path: Path) -> None:
    store = SqliteColumnStore(tmp_path / "shard-0.db", 1, "process", group_count=4)
    store.flush(Flush(batches=[batch(1)], log_end=0))
    assert store.read_pieces(1, [(0, 3)]) == [b"chu"]
    store.close()
    for read in (lambda: store.read_batch(1), lambda: store.read_pieces(1, [(0, 3)])):
        with pytest.raises(StaleRoute, match=r"shard-0\.db: it was closed here while it was read"):
            read()


class TestPostgres:
    """``proxied``: a store whose connections go through ``proxy``; ``direct`` looks past it."""

    @pytest.fixture
    def dataset(self, tmp_path: Path) -> str:
        return tmp_path.name

    @pytest.fixture
    def proxy(self, server: PostgresServer) -> Iterator[CutProxy]:
        with CutProxy(server.port) as proxy:
            yield proxy

    @pytest.fixture
    def proxied(self, server, database, dataset, proxy, monkeypatch):
        monkeypatch.setattr("filoray.nodes.memstore.store.sql_column_store.OUTCOME_TIMEOUT_S", 0.5)
        store = postgres_store(server.url(database.rpartition("/")[2], proxy.port), dataset)
        yield store
        store.close()

    def stored_log(self, server: PostgresServer, database: str, dataset: str) -> list[int]:
        statement = f"SELECT \"offset\" FROM log WHERE dataset = '{dataset}' ORDER BY 1"
        return [row[0] for row in server.sql(statement, database.rpartition("/")[2])]  # type: ignore[misc]

    def test_a_commit_whose_answer_was_lost_counts(self, proxied, proxy, server, database, dataset):
        proxied.commit(log_commit(0))
        proxy.cut = Cut.AFTER_COMMIT
        proxied.commit(log_commit(1, part_keys=b"keys"))
        assert proxy.cut is Cut.NEVER
        proxied.commit(log_commit(2, part_keys=b"keys"))
        assert self.stored_log(server, database, dataset) == [0, 1, 2]
        assert len(list(proxied.part_keys())) == 2

    def test_a_commit_that_never_arrived_does_not_count_and_can_be_tried_again(
        self, proxied, proxy, server, database, dataset
    ):
        proxy.cut = Cut.BEFORE_COMMIT
        with pytest.raises(Unavailable, match=f"127.0.0.1:{proxy.port}"):
            proxied.commit(log_commit(0))
        assert proxy.cut is Cut.NEVER
        assert (self.stored_log(server, database, dataset), proxied.trouble) == ([], None)
        proxied.commit(log_commit(0))
        assert self.stored_log(server, database, dataset) == [0]

    @pytest.mark.parametrize(("cut", "stored"), [(Cut.BEFORE_COMMIT, []), (Cut.AFTER_COMMIT, [0])])
    def test_a_store_that_cannot_learn_what_happened_takes_nothing_until_it_is_opened_anew(
        self, cut, stored, proxied, proxy, server, database, dataset
    ):
        proxy.cut, proxy.closes_after_cut = cut, True
        with pytest.raises(Unavailable, match="not known"):
            proxied.commit(log_commit(0))
        proxy.is_open = True
        assert proxied.trouble is not None
        with pytest.raises(Unavailable, match="not known"):
            proxied.flush(Flush(log_end=0))
        again = postgres_store(database, dataset)  # under the same epoch
        assert [offset for offset, _ in log_of(again)] == stored == self.stored_log(server, database, dataset)
        assert again.state.next_offset == len(stored)
        again.commit(log_commit(len(stored)))
        again.close()

    def test_an_owner_cannot_commit_once_the_same_epoch_was_opened_again(self, database, dataset):
        left_behind = postgres_store(database, dataset)
        again = postgres_store(database, dataset)
        with pytest.raises(StaleRoute):
            left_behind.commit(log_commit(0))
        again.commit(log_commit(0))
        left_behind.close()
        again.close()

    def test_a_hanging_transaction_of_the_old_owner_does_not_keep_the_new_one_out_for_ever(
        self, server, database, dataset
    ):
        import psycopg

        postgres_store(database, dataset).close()
        # As an owner whose process was stopped between two statements: its connection lives on.
        with psycopg.connect(database.replace("+psycopg", "")) as hanging:
            hanging.execute("SET idle_in_transaction_session_timeout = '1s'")
            hanging.execute("UPDATE column_stores SET revision = revision WHERE dataset = %s", [dataset])
            new = postgres_store(database, dataset, epoch=2)
            new.commit(log_commit(0))
            new.close()
            with pytest.raises(psycopg.Error, match="idle-in-transaction"):
                hanging.execute("COMMIT")
            hanging.close()

    def test_no_connection_waits_for_ever(self, database):
        from filoray.cluster.store.postgres import postgres_engine, postgres_url

        def settings(url: str) -> list[str]:
            engine = postgres_engine(postgres_url(url))
            with engine.connect() as connection:
                names = "lock_timeout", "idle_in_transaction_session_timeout", "application_name"
                values = [str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names]
            engine.dispose()
            return values

        assert settings(database) == ["5s", "15s", "filoray"]
        assert settings(f"{database}?application_name=mine&options=-c%20lock_timeout%3D2s")[::2] == ["2s", "mine"]

    def test_many_processes_may_make_the_tables_at_once(self, server):
        url = server.new_database()
        from filoray.cluster.store.postgres import create_tables, postgres_engine, postgres_url
        from filoray.nodes.memstore.store.sql_tables import TABLES

        engines = [postgres_engine(postgres_url(url)) for _ in range(8)]
        with ThreadPoolExecutor(8) as makers:
            for done in [makers.submit(create_tables, engine, TABLES) for engine in engines]:
                done.result()
        for engine in engines:
            engine.dispose()

    def test_the_last_store_of_a_process_closes_its_connections(self, server):
        url = server.new_database()
        name = url.rpartition("/")[2]
        stores = [postgres_store(url, "d", shard=shard) for shard in range(20)]
        for store in stores:
            store.commit(log_commit(0))
            assert store.read_batch(1) is None

        def connections() -> object:
            return server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")[0][0]

        assert connections() == 2
        for store in stores:
            store.close()
            store.close()
        deadline = threading.Event()
        for _ in range(100):  # the server notices a little later
            if connections() == 0:
                return
            deadline.wait(0.05)
        assert connections() == 0


def test_a_server_that_comes_and_goes(tmp_path):
    with running_postgres() as server:
        url = server.new_database()
        store = postgres_store(url, "d")
        store.commit(log_commit(0, part_keys=b"keys"))
        server.stop("fast")
        for ask in (
            lambda: store.commit(log_commit(1)),
            lambda: store.read_batch(1),
            lambda: postgres_store(url, "other"),
        ):
            with pytest.raises(Unavailable, match=f"PostgreSQL at 127.0.0.1:{server.port}, database d") as raised:
                ask()
            assert "s3cret" not in raised.value.message
        server.start()
        # Its connections are dead without knowing it yet: that is no reason to fail.
        store.commit(log_commit(1))
        server.stop()
        server.start()
        assert store.read_pieces(7, [(0, 1)]) is None
        server.stop()
        server.start()
        assert list(store.part_keys()) == [PartKeyRow(1, b"keys")]
        assert log_of(store) == [(0, b"samples"), (1, b"samples")]
        store.close()
