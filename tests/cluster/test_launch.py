"""The launcher as an operator uses it: what it refuses, what it leaves behind, what a second launch finds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest
import requests
from running_cluster import RunningCluster, filoray, free_port_block, wait_until

from filoray.command.ray_runtime import RayRuntime, RayStart

ROOT = Path(__file__).resolve().parents[2]
UNSHARE = shutil.which("unshare")
CAN_MOUNT = UNSHARE is not None and (
    subprocess.run([UNSHARE, "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
).returncode == 0  # fmt: skip
NOW_MS = 1_700_000_000_000
SERIES = [({"__name__": "kept", "i": str(i)}, [NOW_MS], [float(i)]) for i in range(20)]


def up(data_dir: Path, http_port: int, nodes: int, *more: str) -> subprocess.CompletedProcess[str]:
    return filoray(
        "up", "--nodes", str(nodes), "--http-port", str(http_port), "--node-port", str(http_port + 10),
        "--data-dir", str(data_dir), *more,
    )  # fmt: skip


def begin_up(data_dir: Path, http_port: int, *more: str, stdout: int) -> subprocess.Popen[bytes]:
    """A launch of one node that goes on while the test does."""
    return subprocess.Popen(
        [sys.executable, "-m", "filoray.command.cli", "up", "--nodes", "1", "--data-dir", str(data_dir),
         "--http-port", str(http_port), "--node-port", str(http_port + 10), *more],
        stdout=stdout, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def down(data_dir: Path) -> subprocess.CompletedProcess[str]:
    return filoray("down", "--data-dir", str(data_dir))


def runtime_of(data_dir: Path) -> RayRuntime:
    return RayRuntime(**orjson.loads((data_dir / "launch.json").read_bytes())["ray"])


def assert_nothing_is_left(data_dir: Path) -> None:
    """No process names the directory or was started for it, and nothing says that a cluster runs there."""
    assert not (data_dir / "launch.json").exists()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                opened = {file.path for file in process.open_files()}
                assert str(data_dir / "ray.log") not in opened, process
                assert str(data_dir / "coordinator.log") not in opened, process
                assert str(data_dir / "supervisor.log") not in opened, process


def test_a_taken_port_is_refused_at_once(tmp_path: Path) -> None:
    port = free_port_block(20)
    with socket.create_server(("127.0.0.1", port + 1)):
        done = up(tmp_path, port, 2)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"filoray: port {port + 1} on 127.0.0.1 is taken (gateway 1 needs it); "
        "choose others with --http-port, or stop what listens there"
    )
    assert_nothing_is_left(tmp_path)


def test_a_taken_node_port_fails_the_launch_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port_block(20)
    with socket.create_server(("127.0.0.1", port + 10)):
        done = up(tmp_path, port, 1)
    assert done.returncode == 1
    assert "node-0 does not come up" in done.stderr
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["up", "--nodes", "0"], 2, "not a number above 0"),
        (["up", "--http-port", "70000"], 2, "not a port"),
        (["up", "--config", "/nowhere.conf"], 1, "/nowhere.conf: cannot be read"),
        (["up", "--data-dir", "/proc/nowhere"], 1, "cannot keep data in /proc/nowhere"),
        (["down", "--data-dir", "/tmp"], 1, "no cluster was launched on /tmp"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], code: int, words: str) -> None:
    done = filoray(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_others_reach_is_refused_where_nobody_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "open.conf"
    config.write_text('filoray.http.host = "0.0.0.0"')
    done = up(tmp_path / "data", free_port_block(12), 1, "--config", str(config))
    assert done.returncode == 1
    assert "filoray.http.host is 0.0.0.0, which other machines reach" in done.stderr
    assert "filoray.http.web-config-file" in done.stderr
    assert_nothing_is_left(tmp_path / "data")


def test_an_interrupted_launch_leaves_nothing(tmp_path: Path) -> None:
    port = free_port_block(20)
    launch = begin_up(tmp_path, port, stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "coordinator.log").exists, 60, "the actors start")
    runtime = runtime_of(tmp_path)
    launch.send_signal(signal.SIGTERM)
    assert launch.wait(60) != 0
    assert runtime.processes() == []
    assert not Path(runtime.temp_dir).exists()
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_launch_whose_ray_stands_still_or_ends_ends_itself_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port_block(20)
    config = tmp_path / "server.conf"
    config.write_text("filoray.supervisor.hang-timeout = 2s")
    launch = begin_up(tmp_path / "data", port, "--config", str(config), stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "data" / "coordinator.log").exists, 60, "the actors start")
    runtime = runtime_of(tmp_path / "data")
    runtime.essential()["gcs_server"].send(number)
    assert launch.wait(50) == 1  # Ray's client waits for a minute
    assert runtime.processes() == []
    assert_nothing_is_left(tmp_path / "data")


def test_a_cluster_stays_up_when_nobody_reads_what_its_launch_prints(tmp_path: Path) -> None:
    port = free_port_block(20)
    launch = begin_up(tmp_path, port, stdout=subprocess.PIPE)
    assert launch.stdout is not None
    launch.stdout.close()
    launch.wait(120)
    assert requests.get(f"http://127.0.0.1:{port}/__health", timeout=10).text == "All good"
    assert down(tmp_path).returncode == 0
    assert_nothing_is_left(tmp_path)


def test_a_killed_launch_can_be_stopped(tmp_path: Path) -> None:
    port = free_port_block(20)
    launch = begin_up(tmp_path, port, stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "coordinator.log").exists, 60, "the actors start")
    launch.kill()
    launch.wait()
    runtime = runtime_of(tmp_path)
    assert runtime.is_running()
    assert down(tmp_path).returncode == 0
    assert runtime.processes() == []
    assert_nothing_is_left(tmp_path)


def test_two_clusters_side_by_side_and_again_with_other_numbers_of_nodes(tmp_path: Path) -> None:
    first = RunningCluster(tmp_path / "first", nodes=3)
    first.start()
    second = RunningCluster(tmp_path / "second", nodes=1)
    try:
        first.setup(num_shards=4, min_num_nodes=1)
        assert first.write(SERIES).status_code == 204
        again = up(first.data_dir, second.http_port, 1)
        assert again.returncode == 1
        assert f"a cluster runs on {first.data_dir} already ({first.url})" in again.stderr
        second.start()
        second.setup("other", num_shards=2, min_num_nodes=1)
        assert second.get("/api/v1/cluster").json()["data"] == ["other"]
        assert first.get("/api/v1/cluster").json()["data"] == ["timeseries"]
        runtime = runtime_of(second.data_dir)
        second.stop()
        assert runtime.processes() == []
        assert_nothing_is_left(second.data_dir)
        assert first.number("sum(kept)", NOW_MS / 1000) == 190
    finally:
        first.stop()
        if (second.data_dir / "launch.json").exists():
            second.stop()
    for nodes in (1, 2):
        with RunningCluster(first.data_dir, nodes=nodes) as later:
            assert len(later.get("/__members").json()["members"]) == nodes
            assert later.statuses() == ["ShardStatusActive"] * 4
            assert later.number("sum(kept)", NOW_MS / 1000) == 190
            if nodes == 2:
                later.setup("wide", num_shards=4, min_num_nodes=2)
    # A data set that more nodes are needed for is named, with what is needed; what there is room for is served.
    few = up(first.data_dir, first.http_port, 1)
    try:
        assert few.returncode == 0
        assert "dataset wide needs 2 nodes and this launch has 1" in few.stdout
        assert "start it with --nodes 2 or more" in few.stdout
        assert first.statuses() == ["ShardStatusActive"] * 4
        assert sorted(first.statuses("wide")) == ["ShardStatusActive"] * 2 + ["ShardStatusDown"] * 2
    finally:
        assert down(first.data_dir).returncode == 0
    assert_nothing_is_left(first.data_dir)


QUANTILE = {"query": "histogram_quantile(0.9, rate(http_request_duration_seconds_bucket[5m]))"}


def test_the_demo_runs_on_one_node_and_again_on_its_own_data(tmp_path: Path) -> None:
    port = free_port_block(20)
    query = {"query": 'count(count_over_time(up{_ws_="demo"}[1h]))'}
    for nodes in (1, 2):
        done = up(tmp_path, port, nodes, "--demo")
        try:
            assert done.returncode == 0, done.stderr
            assert "stops it; the data stay" in done.stdout
            for_grafana = f"http://127.0.0.1:{port}/promql/timeseries"
            assert f"  {for_grafana}   # the URL for Grafana's Prometheus data source" in done.stdout
            for gateway in range(nodes):
                url = f"http://127.0.0.1:{port + gateway}/promql/timeseries/api/v1/query"
                answer = requests.get(url, query, timeout=30).json()
                assert answer["status"] == "success", answer
                assert answer["data"]["result"][0]["value"][1] == "20"
            answer = requests.get(f"{for_grafana}/api/v1/query", QUANTILE, timeout=30).json()
            assert len(answer["data"]["result"]) == 20
            assert "infos" not in answer  # of buckets that had to be mended
            families = requests.get(f"{for_grafana}/api/v1/metadata", timeout=30).json()["data"]
            assert families["http_request_duration_seconds"][0]["type"] == "histogram"
            feeder = psutil.Process(orjson.loads((tmp_path / "launch.json").read_bytes())["feeder"]["pid"])
            assert feeder.is_running()
        finally:
            stopped = down(tmp_path)
        assert stopped.returncode == 0, stopped.stderr
        psutil.wait_procs([feeder], timeout=10)
        assert not feeder.is_running() or feeder.status() == psutil.STATUS_ZOMBIE
        assert_nothing_is_left(tmp_path)


def test_a_wrong_dataset_of_the_configuration_is_named(tmp_path: Path) -> None:
    config = tmp_path / "server.conf"
    config.write_text('filodb.inline-dataset-configs = [{ dataset = "odd", num-shards = 3, min-num-nodes = 1 }]')
    done = up(tmp_path / "data", free_port_block(20), 1, "--config", str(config))
    assert done.returncode == 1
    assert "dataset odd of" in done.stderr
    assert "num-shards: 3 is not a power of two" in done.stderr
    assert_nothing_is_left(tmp_path / "data")


@pytest.mark.parametrize("name", ["coordinator.db-journal", "coordinator.db-wal", "launch.json", "ray.log"])
def test_a_data_set_in_the_place_of_a_file_is_named_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "shard-0.db").write_text("samples")
    done = up(tmp_path, free_port_block(20), 1)
    assert done.returncode == 1
    assert f"{tmp_path / name} is a directory, and a launch needs a file of that name" in done.stderr
    assert (tmp_path / name / "shard-0.db").read_text() == "samples"


@pytest.mark.skipif(not CAN_MOUNT, reason="only root may mount a small file system, in a mount namespace of its own")
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    """At any fill: refused with the reason, or it works."""
    port = free_port_block(20)
    program = f"""
        mount -t tmpfs -o size=64k none {tmp_path} && head -c 40k /dev/zero >{tmp_path}/filler &&
        exec {sys.executable} -m filoray.command.cli up --nodes 1 --http-port {port} --data-dir {tmp_path}/data "$@"
        """
    command = ["unshare", "--mount", "sh", "-c", program, "sh"]
    lenient = tmp_path.parent / "lenient.conf"
    lenient.write_text("filoray.min-free-disk-size = 0")
    for more, words in (
        ([], f"the disk of {tmp_path}/data is full"),
        (["--config", str(lenient)], "cannot open the coordinator's store: d"),  # "disk I/O error" or another
    ):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 1, done.stdout
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert_nothing_is_left(tmp_path / "data")


@pytest.mark.skipif(not CAN_MOUNT, reason="only root may mount read-only, in a mount namespace of its own")
def test_a_checkout_that_is_read_only_without_a_home_behind_a_proxy_that_is_gone(tmp_path: Path) -> None:
    port, data_dir = free_port_block(20), tmp_path / "data"
    fill_kernel_cache(data_dir / "kernel-cache")
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "no_proxy", "NO_PROXY")}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "grpc_proxy"), "http://127.0.0.1:1")
    places = (ROOT, os.path.expanduser("~root"))
    read_only = "".join(f"mount --bind {place} {place} && mount -o remount,bind,ro {place} && " for place in places)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", read_only + 'exec "$@"', "sh", *arguments],
            capture_output=True, text=True, check=False, timeout=200, env=environment,
        )  # fmt: skip

    filoray_command = (sys.executable, "-m", "filoray.command.cli")
    done = run(
        *filoray_command, "up", "--nodes", "1", "--data-dir", str(data_dir),
        "--http-port", str(port), "--node-port", str(port + 10), "--demo",
    )  # fmt: skip
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        url = f"http://127.0.0.1:{port}"
        asked = run(*filoray_command, "query", "--url", url, "count(up)")
        assert asked.returncode == 0, asked.stderr
        assert "20" in asked.stdout
    finally:
        assert run(*filoray_command, "down", "--data-dir", str(data_dir)).returncode == 0
    assert_nothing_is_left(data_dir)


def fill_kernel_cache(cache: Path) -> None:
    """With what is compiled already, as numba lays it out; compiling all again takes minutes."""
    kernels = ROOT / "nodes" / "kernels"
    for sources in {source.parent for source in kernels.rglob("*.py")}:
        folder = cache / f"{sources.name}_{hashlib.sha1(str(sources).encode()).hexdigest()}"
        folder.mkdir(parents=True)
        for compiled in (sources / "__pycache__").glob("*.nb[ic]"):
            shutil.copy2(compiled, folder)
    shutil.copy2(kernels / "__pycache__" / "filoray-kernels.stamp", cache)


def test_a_checkout_that_takes_no_environment_is_said_to_be(tmp_path: Path) -> None:
    """``.venv`` cannot be made in it: as seen from a script in a folder that is none."""
    script = (ROOT / "scripts" / "environment.sh").read_text()
    program = f"{script}\nFILORAY_ROOT=/proc/nowhere\nfiloray_check_writable"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "/proc/nowhere is not writable, so .venv cannot be made or renewed in it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# ---- on a Ray that runs already


@pytest.fixture(scope="module")
def running_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayRuntime]:
    """One for all: what every test here asserts is that it is left as it was."""
    runtime = RayStart.begin(tmp_path_factory.mktemp("head") / "head.log").wait()
    yield runtime
    runtime.stop()


@pytest.fixture
def ray_head(running_head: RayRuntime, monkeypatch: pytest.MonkeyPatch) -> RayRuntime:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, running_head.environment[name])
    return running_head


def test_rays_own_ports_are_closed_to_who_has_not_the_token(ray_head: RayRuntime) -> None:
    program = f"import ray; ray.init(address={ray_head.address!r}, log_to_driver=False); print(len(ray.nodes()))"

    def come_in(mode: str, token: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
        return subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    with contextlib.ExitStack() as ended:
        strangers = [come_in("disabled", ""), come_in("token", "0" * 64)]
        for stranger in strangers:
            ended.callback(stranger.kill)
        # Ray goes on trying. Whoever is not in when three others were let in one after the other will not be.
        for _ in range(3):
            said, _ = come_in("token", ray_head.secret).communicate(timeout=60)
            assert said.strip() == "1"
        for stranger in strangers:
            stranger.kill()
            assert stranger.communicate()[0] == ""
    assert Path(ray_head.temp_dir).stat().st_mode & 0o077 == 0


def test_a_ray_that_runs_is_joined_and_left_as_it_was(tmp_path: Path, ray_head: RayRuntime) -> None:
    port = free_port_block(40)
    data_dir, address = tmp_path / "data", ["--address", ray_head.address]
    done = up(data_dir, port, 2, *address)
    try:
        assert done.returncode == 0, done.stderr
        url = f"http://127.0.0.1:{port}"
        pids = requests.get(f"{url}/admin/actors", timeout=30).json()["data"]
        assert set(pids) == {"coordinator", "seed-discovery", "gateway-0", "gateway-1", "node-0", "node-1"}

        # Neither the same name on another directory nor the same directory harms the cluster that runs.
        same_name = up(tmp_path / "other", port + 20, 1, *address)
        assert same_name.returncode == 1
        assert "this Ray runs a cluster named filoray already" in same_name.stderr
        same_directory = up(data_dir, port + 20, 1)
        assert same_directory.returncode == 1
        assert f"a cluster runs on {data_dir} already" in same_directory.stderr
        assert requests.get(f"{url}/admin/actors", timeout=30).json()["data"] == pids
    finally:
        stopped = down(data_dir)
    assert stopped.returncode == 0, stopped.stderr
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids.values()), 30, "its actors are gone")
    assert ray_head.is_running()
    assert_nothing_is_left(data_dir)


def test_a_failed_launch_on_a_ray_that_runs_leaves_no_actors(tmp_path: Path, ray_head: RayRuntime) -> None:
    port = free_port_block(20)
    with socket.create_server(("127.0.0.1", port + 10)):
        done = up(tmp_path / "data", port, 1, "--address", ray_head.address)
    assert done.returncode == 1
    assert "node-0 does not come up" in done.stderr
    assert_nothing_is_left(tmp_path / "data")
    again = up(tmp_path / "data", port, 1, "--address", ray_head.address)
    try:
        assert again.returncode == 0, again.stderr
    finally:
        down(tmp_path / "data")


def test_a_ray_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = up(tmp_path, free_port_block(20), 1, "--address", "127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot join Ray at 127.0.0.1:1" in done.stderr
    assert_nothing_is_left(tmp_path)


def test_the_scripts_are_the_commands() -> None:
    for script in ("launch.sh", "stop.sh"):
        done = subprocess.run(
            [str(ROOT / "scripts" / script), "--help"], capture_output=True, text=True, check=False, timeout=600,
            env={**os.environ},
        )  # fmt: skip
        assert done.returncode == 0
        assert "--data-dir" in done.stdout
