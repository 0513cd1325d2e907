"""Which databases the configuration may name, and what it says about those it may not."""

from __future__ import annotations

import sys

import pytest

from filoray.cluster.config.server_config import load_server_config
from filoray.cluster.errors import ConfigError, Unavailable
from filoray.cluster.store.meta_store import MetaStore
from filoray.cluster.store.postgres import place_of, postgres_url

SUPPORTED = r"supported is postgresql\+psycopg://USER:PASSWORD@HOST:PORT/DATABASE"


def test_urls_of_postgresql_are_taken_with_and_without_the_drivers_name():
    pytest.importorskip("psycopg")
    for text in ("postgresql://u:p@db.example/metrics", "postgresql+psycopg://u:p@db.example/metrics"):
        config = load_server_config(None, {"column-store-url": text, "meta-store-url": text})
        assert config.column_store_url == config.meta_store_url == text
        assert postgres_url(text).drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://u:secret@db/metrics", "mysql:// is not supported; "),
        ("postgresql+psycopg2://u:secret@db/metrics", r"postgresql\+psycopg2:// is not supported; "),
        ("sqlite:////tmp/chunks.db", "sqlite:// is not supported; "),
        ("db.example:5432 secret", "no URL of a database; "),
        ("postgresql://u:secret@db:port/metrics", "no URL of a database; "),
        ("postgresql://u:secret@db", "names no database; "),
    ],
)
def test_what_cannot_hold_chunks_is_refused_with_key_and_what_would_do(url, problem):
    with pytest.raises(ConfigError, match=rf"column-store-url: .*{problem}{SUPPORTED}$") as raised:
        load_server_config(None, {"column-store-url": url})
    assert "secret" not in raised.value.message


def test_the_coordinators_store_may_be_a_sqlite_file_as_well(tmp_path):
    url = f"sqlite:///{tmp_path}/meta.db"
    assert load_server_config(None, {"meta-store-url": url}).meta_store_url == url
    store = MetaStore.open(url, tmp_path)
    assert (store.next_generation(), store.next_generation()) == (1, 2)
    store.close()
    with pytest.raises(ConfigError, match=f"meta-store-url: .*{SUPPORTED} or sqlite:///FILE"):
        load_server_config(None, {"meta-store-url": "mysql://db/metrics"})


def test_a_missing_driver_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"column-store-url: PostgreSQL needs psycopg.*'filoray\[postgres\]'"):
        load_server_config(None, {"column-store-url": "postgresql://db/metrics"})


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path):
    pytest.importorskip("psycopg")
    url = "postgresql://u:s3cret@127.0.0.1:9/metrics"
    with pytest.raises(Unavailable, match=r"^PostgreSQL at 127.0.0.1:9, database metrics: cannot open") as raised:
        MetaStore.open(url, tmp_path)
    assert "s3cret" not in raised.value.message


def test_places_are_told_for_sockets_too():
    pytest.importorskip("psycopg")
    assert place_of(postgres_url("postgresql://u@/metrics?host=/run/pg&port=6000")) == (
        "PostgreSQL at /run/pg:6000, database metrics"
    )
    assert place_of(postgres_url("postgresql:///metrics")) == "PostgreSQL at localhost:5432, database metrics"
