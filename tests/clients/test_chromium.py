"""What other sites' pages can do to a gateway from a real browser, and what the gateway's own page can.

Each command is given from a page of another port, from a page whose name has come to point at the gateway (DNS
rebinding), and from the gateway's own page: nothing happens, nothing happens, it happens.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import replace

import bcrypt
import numpy as np
import pytest
from browser import Browser, OtherSite, missing_browser
from cut_proxy import CutProxy
from in_process_gateway import vector

from filoray.http.access.web_config_file import WebConfigFile
from filoray.http.fanout.requests import Names, QueryOutcome
from filoray.http.remote.remote_write_client import encode_write_request
from filoray.nodes.data.label_table import LabelTable

missing = missing_browser()
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.timeout(300),
]
logging.getLogger("filoray.chromium")  # there must be one whose level can be set
BODY = encode_write_request([({"__name__": "up"}, np.array([1]), np.array([1.0]))])
COMMANDS = """
const target = given[0], body = Uint8Array.from(atob(given[1]), c => c.charCodeAt(0));
const ask = async (name, path, options) => {
  try {
    const answer = await fetch(target + path, options);
    return [name, answer.type === "opaque" ? "opaque" : answer.status];
  } catch (error) { return [name, "failed"]; }
};
const simple = (text) => ({method: "POST", mode: given[2], body: text});
const order = JSON.stringify({shardList: [0], address: "akka://filo-server@127.0.0.1:2552"});
const answers = [
  await ask("setup", "/api/v1/cluster/evil", simple("dataset = evil")),
  await ask("delete", "/api/v1/cluster/shop", {method: "DELETE"}),
  await ask("stop", "/api/v1/cluster/shop/stopshards", simple(order)),
  await ask("start", "/api/v1/cluster/shop/startshards", simple(order)),
  await ask("write", "/promql/shop/api/v1/write", simple(body)),
  await ask("level", "/admin/loglevel/filoray.chromium", simple("debug")),
  await ask("cancel", "/api/v1/queries/q1", {method: "DELETE"}),
  await ask("list", "/api/v1/cluster", {}),
  await ask("query", "/promql/shop/api/v1/query?query=1", {}),
];
return Object.fromEntries(answers);
"""
FORM = """
const [form, frame, field] = ["form", "iframe", "input"].map(tag => document.createElement(tag));
frame.name = "result"; field.name = "dataset"; field.value = "evil";
Object.assign(form, {method: "POST", target: "result", enctype: "text/plain"});
form.action = given[0] + "/api/v1/cluster/evil";
form.append(field); document.body.append(frame, form);
const loaded = new Promise(done => { frame.onload = done; });
form.submit(); await loaded;
const body = Uint8Array.from(atob(given[1]), c => c.charCodeAt(0));
return navigator.sendBeacon(given[0] + "/promql/shop/api/v1/write", new Blob([body]));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("chromium"), ["--host-resolver-rules=MAP evil.example 127.0.0.1"])
    yield made
    made.close()


@pytest.fixture
async def api(gateways):
    return await gateways.start("shop")


async def command(browser, target, mode="no-cors", script=COMMANDS):
    return await asyncio.to_thread(browser.run, script, target, base64.b64encode(BODY).decode(), mode)


async def figures(api):
    async with api.client.get("/metrics") as response:
        return await response.text()


def happened(api):
    return [call for call in api.control.calls if call[0] != "members"], api.writes.calls, api.queries.canceled


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
async def test_a_page_of_another_port_can_only_ask_queries(api, browser, host):
    with OtherSite("<h1>another site") as site:
        await asyncio.to_thread(browser.visit, f"http://{host}:{site.port}/")
        answers = await command(browser, api.url)
        assert happened(api) == ([], [], [])
        assert answers.pop("query") == 200
        assert set(answers.values()) == {"opaque", "failed"}
        assert answers["list"] == answers["delete"] == "failed"
        await command(browser, api.url, script=FORM)
        refused = 'method="POST",route="/promql/{dataset}/api/v1/write"} 2.0'  # the command's write, and the beacon's
        while refused not in await figures(api):
            await asyncio.sleep(0.02)
        assert happened(api) == ([], [], [])


async def test_no_page_frames_ours(api, browser):
    with OtherSite(f'<iframe src="{api.url}/" onload="window.loaded = 1"></iframe>') as site:
        await asyncio.to_thread(browser.visit, f"http://127.0.0.1:{site.port}/")
        await asyncio.to_thread(browser.wait_for, "return window.loaded", "the frame has something")
        assert await asyncio.to_thread(browser.run_in_frame, "return location.href") == "chrome-error://chromewebdata/"


async def test_a_name_that_is_bound_anew_commands_nothing(api, browser):
    gateway_port = int(api.url.rpartition(":")[2])
    with OtherSite("<h1>another site") as site, CutProxy(site.port) as name:
        await asyncio.to_thread(browser.visit, f"http://evil.example:{name.port}/")
        name.server_port = gateway_port
        answers = await command(browser, "", "same-origin")
        assert name.connected.count(gateway_port) > 0  # it was the gateway that was asked, as the page's own site
        assert set(answers.values()) == {403}
        assert happened(api) == ([], [], [])


async def test_the_own_page_may_do_what_is_done_here(api, browser):
    await asyncio.to_thread(browser.visit, api.url)
    answers = await command(browser, "", "same-origin")
    assert answers == {
        "setup": 200, "delete": 200, "stop": 200, "start": 200, "write": 204, "level": 200, "cancel": 200, "list": 200,
        "query": 200,
    }  # fmt: skip
    calls, writes, canceled = happened(api)
    assert [call[0] for call in calls] == ["setup", "delete", "stop", "start"]
    assert len(writes) == 1
    assert canceled == ["q1"]


async def test_the_page_works_where_one_is_asked_who_one_is(gateways, browser, tmp_path):
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    file = tmp_path / "web.yml"
    roles = "filoray: {users: {viewer: {roles: {shop: read}}}}"
    file.write_text(f"basic_auth_users: {{viewer: {hashed}}}\n{roles}")
    api = await gateways.start("shop", "other", access=WebConfigFile(file))
    # What its user types at the browser's prompt stands in the URL here; the browser remembers it for the site.
    await asyncio.to_thread(browser.visit, api.url.replace("://", "://viewer:secret@"))
    await asyncio.to_thread(browser.visit, api.url)
    summary = "return document.getElementById('summary').textContent.includes('1 dataset ') && true"
    await asyncio.to_thread(browser.wait_for, summary, "the page shows the data set that its user may see")
    answers = await command(browser, "", "same-origin")
    assert (answers["query"], answers["write"], answers["delete"], answers["setup"]) == (200, 403, 403, 403)
    assert happened(api) == ([], [], [])
    # The password that the browser sends along for everybody is of no use to another site's page.
    with OtherSite("<h1>another site") as site:
        await asyncio.to_thread(browser.visit, f"http://localhost:{site.port}/")
        answers = await command(browser, api.url)
        assert (answers["query"], answers["list"]) == (401, "failed")  # what it may ask, it may read the refusal of
        assert happened(api) == ([], [], [])


HOSTILE = [
    "<img src=x onerror=window.hit=1>",
    "<script>window.hit=1</script>",
    '"><svg onload=window.hit=1>',
    "javascript:window.hit=1",
    "'-window.hit=1-'",
    "${window.hit=1}",
    "</title></style></textarea><iframe srcdoc='<script>parent.hit=1</script>'>",
]


async def test_labels_names_and_errors_are_text_in_the_page(gateways, browser):
    api = await gateways.start("shop", HOSTILE[0], default=None)
    result = vector(*range(1, len(HOSTILE) + 1))
    labels = LabelTable.from_label_sets([{"__name__": text, text: text, "l": text} for text in HOSTILE])
    result = replace(result, frame=replace(result.frame, labels=labels))
    api.queries.outcome = QueryOutcome(result, warnings=tuple(HOSTILE), infos=tuple(HOSTILE))
    api.queries.names = Names(HOSTILE)
    await asyncio.to_thread(browser.visit, api.url)
    chips = "return [...document.querySelectorAll('#metrics button')].map(one => one.textContent)"
    await asyncio.to_thread(browser.wait_for, f"{chips}.length > 0", "metric names to choose from")
    assert await asyncio.to_thread(browser.run, chips) == HOSTILE
    await asyncio.to_thread(browser.visit, f"{api.url}/#q=up&dataset=shop&span=3600&end=")
    await asyncio.to_thread(browser.run, "location.reload()")
    legend = "return [...document.querySelectorAll('#legend div')].map(one => one.textContent)"
    await asyncio.to_thread(browser.wait_for, f"{legend}.length > 0", "the result is drawn")
    names = await asyncio.to_thread(browser.run, legend)
    assert all(text in name for text, name in zip(HOSTILE, names, strict=True))
    note = await asyncio.to_thread(browser.run, "return document.getElementById('note').textContent")
    assert all(text in note for text in HOSTILE)
    # An error's text, quoted from what was asked.
    await asyncio.to_thread(browser.run, "document.getElementById('query').value = given[0]; run()", HOSTILE[0])
    error = "return document.getElementById('note').className === 'bad' && document.getElementById('note').textContent"
    assert "parse error" in await asyncio.to_thread(browser.wait_for, error, "the error is shown")
    found = "return [window.hit, document.querySelectorAll('img, iframe, main script, [onload], [onerror]').length]"
    assert await asyncio.to_thread(browser.run, found) == [None, 0]


async def test_what_is_injected_into_the_page_does_not_run(api, browser):
    """Were data ever to become markup: the page's policy runs its own script only."""
    await asyncio.to_thread(browser.visit, api.url)
    script = """
const blocked = new Promise(done =>
  document.addEventListener("securitypolicyviolation", event => done(event.violatedDirective)));
document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.hit = 1'>");
return [await blocked, window.hit ?? null];
"""
    assert await asyncio.to_thread(browser.run, script) == ["script-src-attr", None]
