"""Who may do what over HTTP: every endpoint with every role, and how one proves a name."""

import asyncio
import base64
import gc
import hashlib
import os
import threading
import time

import bcrypt
import pytest
from aiohttp import ClientSession

from filoray.http.access import authentication
from filoray.http.access.route_access import ACCESS_BY_ENDPOINT
from filoray.http.access.web_config_file import WebConfigFile
from filoray.http.server.application import build_application


def hashed(password, cost=4):
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


ROLES = {
    "admin": '{"*": admin}',
    "reader": '{"*": read}',
    "writer": '{"*": write}',
    "shop-admin": "{shop: admin}",
    "shop-writer": "{shop: write}",
    "shop-reader": "{shop: read}",
    "other-admin": "{other: admin}",
}
TOKEN = "a token of the agent"
CONFIG = "\n".join(
    [
        "basic_auth_users:",
        f"  root: {hashed('secret of root')}",
        *(f"  {name}: {hashed(f'secret of {name}')}" for name in ROLES),
        "filoray:",
        "  users:",
        *(f"    {name}: {{roles: {roles}}}" for name, roles in ROLES.items()),
        "  tokens:",
        f"    - {{name: agent, sha256: {hashlib.sha256(TOKEN.encode()).hexdigest()}, roles: {{shop: write}}}}",
    ]
)


def basic(name, password=None):
    pair = f"{name}:{f'secret of {name}' if password is None else password}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "web.yml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


@pytest.fixture
async def api(gateways, file):
    return await gateways.start("shop", "other", access=WebConfigFile(file))


EVERYBODY = {"root", *ROLES}
READS_SHOP = {"root", "admin", "reader", "writer", "shop-admin", "shop-writer", "shop-reader"}
WRITES_SHOP = {"root", "admin", "writer", "shop-admin", "shop-writer"}
HAS_SHOP = {"root", "admin", "shop-admin"}
READS_ALL = {"root", "admin", "reader", "writer"}
HAS_ALL = {"root", "admin"}
ENDPOINTS = [
    ("GET", "/", EVERYBODY),
    ("GET", "/__members", EVERYBODY),
    ("GET", "/__seeds", EVERYBODY),
    ("GET", "/api/v1/cluster", EVERYBODY),
    ("GET", "/api/v1/queries", EVERYBODY),
    ("GET", "/api/v1/status/buildinfo", EVERYBODY),
    ("GET", "/api/v1/format_query?query=1", EVERYBODY),
    ("POST", "/promql/shop/api/v1/parse_query?query=1", EVERYBODY),
    ("GET", "/metrics", READS_ALL),
    ("GET", "/admin/figures", READS_ALL),
    ("GET", "/admin/actors", HAS_ALL),
    ("POST", "/admin/loglevel/filoray.test", HAS_ALL),
    ("GET", "/api/v1/cluster/shop/status", READS_SHOP),
    ("GET", "/api/v1/cluster/shop/statusByAddress", READS_SHOP),
    ("GET", "/api/v1/cluster/shop/shards/0/story", READS_SHOP),
    ("POST", "/api/v1/cluster/shop", HAS_SHOP),
    ("DELETE", "/api/v1/cluster/shop", HAS_SHOP),
    ("POST", "/api/v1/cluster/shop/stopshards", HAS_SHOP),
    ("POST", "/api/v1/cluster/shop/startshards", HAS_SHOP),
    *(
        (method, f"{path}", READS_SHOP)
        for method in ("GET", "POST")
        for end in ("query?query=1", "query_range?query=1&start=0&end=1&step=1", "series?match[]=up", "labels")
        for path in (f"/promql/shop/api/v1/{end}", f"/api/v1/{end}{'&' if '?' in end else '?'}dataset=shop")
    ),
    ("GET", "/promql/shop/api/v1/label/job/values", READS_SHOP),
    ("GET", "/api/v1/label/job/values?dataset=shop", READS_SHOP),
    ("GET", "/promql/shop/api/v1/metadata", READS_SHOP),
    ("GET", "/api/v1/metadata?dataset=shop", READS_SHOP),
    ("POST", "/promql/shop/api/v1/read", READS_SHOP),
    ("POST", "/api/v1/read?dataset=shop", READS_SHOP),
    ("POST", "/promql/shop/api/v1/write", WRITES_SHOP),
    ("POST", "/api/v1/write?dataset=shop", WRITES_SHOP),
]


@pytest.mark.parametrize(("method", "path", "allowed"), ENDPOINTS)
async def test_every_endpoint_with_every_role(api, method, path, allowed):
    status, body = await api.ask(method, path)
    assert (status, body["errorType"]) == (401, "unauthorized")
    for name in sorted(EVERYBODY):
        calls = list(api.control.calls)
        async with api.client.request(method, path, headers=basic(name), data=b"info") as response:
            if name in allowed:
                assert response.status not in (401, 403), name
            else:
                assert response.status == 403, name
                error = (await response.json())["error"]
                assert "needs the role " in error
                assert name in error
                assert api.control.calls == calls


async def test_the_table_names_every_endpoint_that_is_served_and_no_other(api):
    application = build_application(api.services)
    served = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    assert served == ACCESS_BY_ENDPOINT.keys()


@pytest.mark.parametrize("path", ["/__health", "/admin/health"])
async def test_health_is_open(api, path):
    async with api.client.get(path) as response:
        assert response.status == 200


async def test_preflights_are_open_and_what_follows_is_not(api):
    origin = {"Origin": "http://grafana.example"}
    async with api.client.options("/promql/shop/api/v1/query", headers=origin) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, "*")
    async with api.client.get("/promql/shop/api/v1/query?query=1", headers=origin) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (401, "*")
    async with api.client.get("/api/v1/cluster", headers=origin) as response:
        assert (response.status, response.headers.get("Access-Control-Allow-Origin")) == (401, None)
    status, _ = await api.get("/promql/shop/api/v1/query?query=1", headers={**origin, **basic("reader")})
    assert status == 200


async def test_another_site_s_page_changes_nothing_with_the_visitor_s_password(api):
    headers = {**basic("root"), "Origin": "http://evil.example"}
    status, body = await api.ask("DELETE", "/api/v1/cluster/shop", headers=headers)
    assert (status, api.control.calls) == (403, [])
    assert "other sites" in body["error"]


@pytest.mark.parametrize("path", ["/nowhere", "/api/v1/nowhere", "/promql/shop"])
async def test_strangers_do_not_learn_what_is_not_there(api, path):
    assert (await api.get(path))[0] == 401
    assert (await api.get(path, headers=basic("shop-reader")))[0] == 404


async def test_only_what_one_may_see_is_listed_and_chosen(api):
    async def datasets(name):
        return (await api.get("/api/v1/cluster", headers=basic(name)))[1]["data"]

    assert (await datasets("reader"), await datasets("shop-reader")) == (["other", "shop"], ["shop"])
    status, _ = await api.get("/api/v1/query?query=1", headers=basic("shop-reader"))
    assert (status, api.queries.requests[-1].dataset) == (200, "shop")
    status, body = await api.get("/api/v1/query?query=1", headers=basic("reader"))
    assert (status, body["error"].rpartition(": ")[2]) == (400, "other, shop")
    # What is not there and what is not theirs look the same to them.
    for dataset in ("other", "nowhere"):
        status, body = await api.get(f"/promql/{dataset}/api/v1/query?query=1", headers=basic("shop-reader"))
        wanted = f"this needs the role read for dataset {dataset}; shop-reader has none"
        assert (status, body["error"]) == (403, wanted)


async def test_running_queries_are_their_datasets_affair(gateways, file):
    api = await gateways.start("timeseries", "shop", access=WebConfigFile(file))
    status, body = await api.get("/api/v1/queries", headers=basic("shop-reader"))
    assert (status, body["data"]) == (200, [])
    assert (await api.ask("DELETE", "/api/v1/queries/q1", headers=basic("shop-admin")))[0] == 403
    assert (await api.ask("DELETE", "/api/v1/queries/q1", headers=basic("writer")))[0] == 403
    assert api.queries.canceled == []
    assert (await api.ask("DELETE", "/api/v1/queries/q1", headers=basic("admin")))[0] == 200


async def test_a_token_writes_and_reads_its_dataset(api):
    assert (await api.get("/promql/shop/api/v1/query?query=1", headers=bearer(TOKEN)))[0] == 200
    assert (await api.get("/promql/other/api/v1/query?query=1", headers=bearer(TOKEN)))[0] == 403
    assert (await api.ask("DELETE", "/api/v1/cluster/shop", headers=bearer(TOKEN)))[0] == 403


WRONG = [
    basic("root", "wrong"), basic("root", ""), basic("nobody", "secret of root"), basic("", ""), basic("root", "a\0b"),
    basic("root", "x" * 10_000), bearer("wrong"), bearer(""), bearer("ü"),
    {"Authorization": ""}, {"Authorization": "Basic"},
    {"Authorization": "Basic !!!"}, {"Authorization": "Basic " + base64.b64encode(b"root").decode()},
    {"Authorization": "Digest username=root"}, {"Authorization": basic("root")["Authorization"][6:]},
]  # fmt: skip


@pytest.mark.parametrize("headers", WRONG)
async def test_what_proves_nothing_is_asked_again(api, headers):
    for _ in range(2):
        async with api.client.get("/api/v1/cluster", headers=headers) as response:
            assert response.status == 401
            challenge = 'Basic realm="filoray", charset="UTF-8", Bearer realm="filoray"'
            assert response.headers["WWW-Authenticate"] == challenge
            assert (await response.json())["errorType"] == "unauthorized"


async def test_schemes_are_read_in_any_case(api):
    value = basic("root")["Authorization"].replace("Basic ", "bAsIc  ")
    assert (await api.get("/api/v1/cluster", headers={"Authorization": value}))[0] == 200


async def test_a_password_is_hashed_once_however_many_ask(api, monkeypatch):
    checks = []
    right = bcrypt.checkpw
    monkeypatch.setattr(authentication.bcrypt, "checkpw", lambda *pair: checks.append(pair) or right(*pair))
    answers = [api.get("/api/v1/cluster", headers=basic("root")) for _ in range(30)]
    assert {status for status, _ in await asyncio.gather(*answers)} == {200}
    assert len(checks) == 1
    for name in ("nobody", "root"):  # a name that nobody has costs as much, and guesses are remembered too
        for _ in range(3):
            assert (await api.get("/api/v1/cluster", headers=basic(name, "guess")))[0] == 401
    assert len(checks) == 3


async def test_guesses_wait_in_a_line_that_ends_and_known_clients_do_not_notice(gateways, file, monkeypatch):
    access = WebConfigFile(file)
    api = await gateways.start("shop", access=access)
    assert (await api.get("/api/v1/cluster", headers=basic("root")))[0] == 200
    loop, released = asyncio.get_running_loop(), asyncio.Event()

    def slow(*_):
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
        return False

    monkeypatch.setattr(authentication.bcrypt, "checkpw", slow)
    async with ClientSession(api.url) as guesser:

        async def guess(number):
            async with guesser.get("/api/v1/cluster", headers=basic("root", f"guess {number}")) as response:
                return response.status, response.headers.get("Retry-After")

        guesses = [asyncio.create_task(guess(number)) for number in range(90)]
        done, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in done} == {(503, "1")}
        assert (await api.get("/api/v1/cluster", headers=basic("root")))[0] == 200
        released.set()
        statuses = [status for status, _ in await asyncio.gather(*guesses)]
    assert (statuses.count(401), statuses.count(503)) == (64, 26)


async def test_what_is_remembered_is_bounded():
    config = WebConfigFile(None).loaded.config
    authenticator = authentication.Authenticator(
        config.__class__(tokens=(authentication.Token(authentication.ANYBODY, b"x"),))
    )
    for number in range(1_500):
        with pytest.raises(authentication.Unauthorized):
            await authenticator.identify(f"Bearer {number}")
    assert len(authenticator._wrong) == 1_000


async def test_the_log_says_who_did_what(api, caplog):
    caplog.set_level("INFO", "filoray.http.access")
    assert (await api.ask("DELETE", "/api/v1/cluster/shop", headers=basic("shop-admin")))[0] == 200
    assert (await api.ask("DELETE", "/api/v1/cluster/shop", headers=basic("shop-admin", "guess")))[0] == 401
    lines = [record.getMessage() for record in caplog.records if "method=DELETE" in record.getMessage()]
    assert [line.rpartition("user=")[2] for line in lines] == ["shop-admin", "-"]
    assert "secret" not in caplog.text


# ---- a file that changes


def change(path, text):
    """As editors do: a new file in the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


async def answers(api, headers, expected):
    deadline_s = time.monotonic() + 60
    while (status := (await api.get("/api/v1/cluster", headers=headers))[0]) != expected:
        assert time.monotonic() < deadline_s, status
        await asyncio.sleep(0.01)


async def test_a_changed_file_is_read_and_a_wrong_one_changes_nothing(gateways, file):
    api = await gateways.start("shop", access=WebConfigFile(file), http={"web_config_check_interval_ms": 10})
    assert (await api.get("/api/v1/cluster", headers=basic("shop-reader")))[0] == 200
    change(file, f"basic_auth_users: {{root: {hashed('another')}}}")
    await answers(api, basic("shop-reader"), 401)
    assert (await api.get("/api/v1/cluster", headers=basic("root")))[0] == 401
    assert (await api.get("/api/v1/cluster", headers=basic("root", "another")))[0] == 200

    async def is_right():
        async with api.client.get("/metrics", headers=basic("root", "another")) as response:
            return "filoray_web_config_last_reload_successful 1.0" in await response.text()

    assert await is_right()
    change(file, "basic_auth_users: {root: none}")
    while await is_right():
        await asyncio.sleep(0.01)
    assert (await api.get("/api/v1/cluster", headers=basic("root", "another")))[0] == 200
    file.unlink()
    await asyncio.sleep(0.05)
    assert (await api.get("/api/v1/cluster"))[0] == 401
    file.write_text(f"basic_auth_users: {{root: {hashed('third')}}}")
    await answers(api, basic("root", "third"), 200)
    assert (await api.get("/api/v1/cluster", headers=basic("root", "another")))[0] == 401


async def test_who_is_asked_by_the_file_of_a_moment_ago_is_answered_by_it(file):
    access = WebConfigFile(file)
    before = access.loaded.authenticator
    change(file, f"basic_auth_users: {{root: {hashed('another')}}}")
    access.reload_if_changed()
    assert (await before.identify(basic("root")["Authorization"])).name == "root"
    with pytest.raises(authentication.Unauthorized):
        await access.loaded.authenticator.identify(basic("root")["Authorization"])
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("passwords")]
    del before
    gc.collect()
    deadline_s = time.monotonic() + 60
    while len([thread for thread in threading.enumerate() if thread.name.startswith("passwords")]) >= len(threads):
        assert time.monotonic() < deadline_s, threads
        await asyncio.sleep(0.01)
