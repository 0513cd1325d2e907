"""A real browser for tests: headless Chromium, driven over WebDriver; and another site for it to visit."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from client_programs import free_ports
from running_cluster import wait_until

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def missing_browser() -> list[str]:
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


class Browser:
    """One Chromium with a profile of its own. ``flags``: more of its command line."""

    def __init__(self, directory: Path, flags: Sequence[str] = ()) -> None:
        (port,) = free_ports(1)
        self._base = f"http://127.0.0.1:{port}"
        with (directory / "chromedriver.log").open("wb") as log:
            self._driver = subprocess.Popen(
                ["chromedriver", f"--port={port}"], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        try:
            wait_until(self._is_ready, 60, "chromedriver is ready")
            arguments = [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
                f"--user-data-dir={directory / 'profile'}", *flags,
            ]  # fmt: skip
            options = {"binary": shutil.which("chromium"), "args": arguments}
            made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
            self._session = f"/session/{made['sessionId']}"
            self._ask("POST", f"{self._session}/timeouts", {"script": 60_000, "pageLoad": 60_000})
        except BaseException:
            self._driver.kill()
            self._driver.wait()
            raise

    def visit(self, url: str) -> None:
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of an async function's body in the page, as its own script would get it."""
        wrapped = (
            "const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);"
            f"(async (...given) => {{ {script} }})(...given).then(value => done({{value}}), "
            "error => done({error: String(error)}));"
        )
        answer = self._ask("POST", f"{self._session}/execute/async", {"script": wrapped, "args": list(arguments)})
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def run_in_frame(self, script: str) -> Any:
        """The same in the page's first frame, whatever is shown there."""
        self._ask("POST", f"{self._session}/frame", {"id": 0})
        try:
            return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": []})
        finally:
            self._ask("POST", f"{self._session}/frame", {"id": None})

    def wait_for(self, script: str, what: str) -> Any:
        """The script's value when it is true."""
        values: list[Any] = []

        def is_true() -> bool:
            values.append(self.run(script))
            return bool(values[-1])

        wait_until(is_true, 60, what)
        return values[-1]

    def close(self) -> None:
        try:
            self._ask("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(timeout=30)

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with _NO_PROXY.open(request, timeout=120) as response:
                return json.loads(response.read())["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:1000]}") from None


class OtherSite:
    """A site that serves one page under any path and host. Use as a context manager; ``port`` on loopback."""

    def __init__(self, page: str, on_request: Callable[[str], None] = lambda path: None) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                on_request(self.path)
                content = site.page.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.page = page
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> OtherSite:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
