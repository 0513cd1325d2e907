"""Remote write over HTTP: what is taken, what is refused, and in which words."""

import asyncio
from collections import Counter

import cramjam
import pytest
from in_process_gateway import error

from filoray.cluster.errors import Unavailable
from filoray.http.remote.remote_write_client import encode_write_request
from filoray.http.remote.write_answer import OUTCOME_HEADER, read_outcome_header
from filoray.nodes.data.write_outcome import RefusalReason, WriteOutcome

HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}


@pytest.fixture
async def api(gateways):
    return await gateways.start("timeseries")


def body(count=3):
    return encode_write_request([({"__name__": "up", "i": str(i)}, [1000, 2000], [1.0, 2.0]) for i in range(count)])


async def write(api, data, path="/api/v1/write", headers=HEADERS):
    """Status and error text."""
    async with api.client.post(path, data=data, headers=headers) as response:
        return response.status, (await response.json())["error"] if response.status != 204 else await response.text()


@pytest.mark.parametrize(
    "path", ["/api/v1/write", "/promql/timeseries/api/v1/write", "/api/v1/write?dataset=timeseries"]
)
async def test_samples_reach_the_write_service(api, path):
    assert await write(api, body(), path) == (204, "")
    [(name, containers, _, request_id)] = api.writes.calls
    assert (name, sum(container.sample_count for container in containers.values())) == ("timeseries", 6)
    assert request_id
    metrics = await (await api.client.get("/metrics")).text()
    assert 'filoray_samples_written_total{dataset="timeseries"} 6.0' in metrics


async def test_part_keys_are_sent_until_they_are_acknowledged(api):
    api.writes.error = Unavailable("no shard")
    assert await write(api, body()) == (503, "no shard")
    api.writes.error = None
    assert await write(api, body()) == (204, "")
    assert await write(api, body()) == (204, "")
    keys = [sum(len(container.key_series) for container in call[1].values()) for call in api.writes.calls]
    assert keys == [3, 3, 0]


async def test_a_large_body_is_decoded_in_a_thread(api):
    data = body(10_000)
    assert len(data) > 32 * 1024
    assert await write(api, data) == (204, "")
    assert sum(container.sample_count for container in api.writes.calls[0][1].values()) == 20_000


async def test_an_empty_body_is_nothing_to_do(api):
    assert await write(api, b"") == (204, "")
    assert api.writes.calls == []


async def test_refused_samples_are_counted_and_the_rest_is_stored(api):
    api.writes.outcome = WriteOutcome(
        4, Counter({RefusalReason.TOO_OLD: 1, RefusalReason.DIFFERENT_VALUE: 1}), 'up{i="1"} at 1000'
    )
    text = (
        "2 samples were refused (different value at a stored timestamp: 1, too old: 1), 4 were stored; "
        'for example up{i="1"} at 1000'
    )
    assert await write(api, body()) == (400, text)
    async with api.client.post("/api/v1/write", data=body(), headers=HEADERS) as response:
        assert read_outcome_header(response.headers[OUTCOME_HEADER]) == api.writes.outcome
    metrics = await (await api.client.get("/metrics")).text()
    assert 'filoray_samples_refused_total{dataset="timeseries",reason="too old"} 2.0' in metrics


async def test_samples_that_the_decoder_refuses_are_counted_too(api):
    data = encode_write_request([({"__name__": "up"}, [1], [1.0]), ({"i": "no name"}, [1, 2], [1.0, 2.0])])
    status, text = await write(api, data)
    assert status == 400
    assert text.startswith("2 samples were refused (no metric name: 2), 1 were stored; for example ")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"},
         "message io.prometheus.write.v2.Request is not read here; only prometheus.WriteRequest (remote write 1.0) is"),
        ({"Content-Type": "application/json"},
         "content type application/json is not read here; only application/x-protobuf is"),
        ({"Content-Encoding": "zstd-framed"}, "content encoding zstd-framed is not read here; only snappy is"),
    ],
)  # fmt: skip
async def test_other_forms_of_bodies_are_415(api, changed, text):
    assert await write(api, body(), headers={**HEADERS, **changed}) == (415, text)
    assert api.writes.calls == []


async def test_the_first_version_may_name_itself(api):
    headers = {**HEADERS, "Content-Type": "application/x-protobuf;proto=prometheus.WriteRequest"}
    assert (await write(api, body(), headers=headers))[0] == 204


async def test_bodies_that_are_no_remote_write(api):
    assert (await write(api, b"\xff\xff\xff\xff\xff\xff\xff"))[0] == 400
    assert (await write(api, bytes(cramjam.snappy.compress_raw(b"\x0a\xff"))))[0] == 400
    assert api.writes.calls == []


async def test_a_body_over_its_limit_is_413_and_names_the_key(gateways):
    api = await gateways.start("timeseries", write={"max_body_bytes": 10})
    data = body()
    text = f"the body has {len(data)} bytes; filoray.write.max-body-size allows 10"
    assert await write(api, data) == (413, text)

    async def in_pieces():
        yield data

    text = f"the body has more than {len(data) - 1} bytes; filoray.write.max-body-size allows 10"
    assert await write(api, in_pieces()) == (413, text)


async def test_more_bytes_than_a_gateway_may_hold_are_503(gateways):
    api = await gateways.start("timeseries", write={"max_pending_bytes": 1})
    release = asyncio.Event()
    began = asyncio.Event()
    stored = api.writes.write

    async def slow(*call):
        began.set()
        await release.wait()
        return await stored(*call)

    api.writes.write = slow
    first = asyncio.create_task(write(api, body()))
    await began.wait()
    status, text = await write(api, body())
    assert status == 503
    assert "filoray.write.max-pending-size = 1" in text
    release.set()
    assert await first == (204, "")


async def test_what_a_small_body_becomes_counts_as_held_while_it_is_decoded(gateways):
    api = await gateways.start("timeseries", write={"max_pending_bytes": 100_000})
    large = encode_write_request([({"__name__": f"m{i}", "long": "x" * 10_000}, [1], [1.0]) for i in range(20)])
    assert len(large) < 15_000
    assert await write(api, large) == (204, "")  # from now on its part keys stay here, and its containers are small
    release, began, stored = asyncio.Event(), asyncio.Event(), api.writes.write

    async def slow(*call):
        began.set()
        await release.wait()
        return await stored(*call)

    api.writes.write = slow
    first = asyncio.create_task(write(api, body()))
    await began.wait()
    status, text = await write(api, large)
    assert status in (429, 503)
    assert "filoray.write.max-pending-size = 100000" in text
    release.set()
    assert await first == (204, "")
    assert await write(api, large) == (204, "")


async def test_an_unknown_dataset(api):
    async with api.client.post("/promql/x/api/v1/write", data=body(), headers=HEADERS) as response:
        assert (response.status, await response.json()) == (404, error("DatasetUnknown", "Dataset x is not registered"))
