"""librdkafka's own mock broker in a process of its own: the real protocol over TCP, no Java, and it can be taken down.

Run as a program it is the broker: it prints its address and obeys lines on standard input. The library is the one
that the confluent-kafka wheel brings; its mock API (rdkafka_mock.h) is not in the Python binding, hence ctypes.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from pathlib import Path


class MockKafka:
    """Use as a context manager. Messages outlive ``down``/``up`` but not the process."""

    def __enter__(self) -> MockKafka:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.servers = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def create_topic(self, name: str, partitions: int) -> None:
        self._ask(f"topic {name} {partitions}")

    def down(self) -> None:
        """Connections are cut and new ones refused."""
        self._ask("down")

    def up(self) -> None:
        self._ask("up")

    def _ask(self, command: str) -> None:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)
        answer = self._answer()
        assert answer == "0", f"{command}: librdkafka error {answer}"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _library() -> ctypes.CDLL:
    import confluent_kafka  # noqa: F401  loads what librdkafka itself needs

    spec = importlib.util.find_spec("confluent_kafka")
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).parent.parent
    return ctypes.CDLL(str(next(site.glob("confluent_kafka.libs/librdkafka-*.so*"))))


def librdkafka_properties(scratch: Path) -> set[str]:
    """The names of all configuration properties that the library documents; ``scratch`` is a file to write."""
    library, c_library = _library(), ctypes.CDLL(None)
    c_library.fopen.restype = ctypes.c_void_p
    c_library.fclose.argtypes = library.rd_kafka_conf_properties_show.argtypes = [ctypes.c_void_p]
    file = c_library.fopen(str(scratch).encode(), b"w")
    library.rd_kafka_conf_properties_show(file)
    c_library.fclose(file)
    rows = [line.split("|")[0].strip() for line in scratch.read_text().splitlines() if line.count("|") > 2]
    return {name for name in rows if name != "Property" and not name.startswith("--")}


def _serve() -> None:
    library = _library()
    pointer = ctypes.c_void_p
    library.rd_kafka_conf_new.restype = pointer
    library.rd_kafka_new.restype = pointer
    library.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_mock_cluster_new.restype = pointer
    library.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    library.rd_kafka_mock_topic_create.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    library.rd_kafka_mock_broker_set_down.argtypes = [pointer, ctypes.c_int32]
    library.rd_kafka_mock_broker_set_up.argtypes = [pointer, ctypes.c_int32]
    library.rd_kafka_conf_set.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]

    error = ctypes.create_string_buffer(512)
    client = library.rd_kafka_new(0, library.rd_kafka_conf_new(), error, len(error))
    assert client, error.value
    cluster = library.rd_kafka_mock_cluster_new(client, 1)
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["topic", name, partitions]:
                code = library.rd_kafka_mock_topic_create(cluster, name.encode(), int(partitions), 1)
            case ["down"]:
                code = library.rd_kafka_mock_broker_set_down(cluster, 1)
            case ["up"]:
                code = library.rd_kafka_mock_broker_set_up(cluster, 1)
            case _:
                code = -1
        print(code, flush=True)


if __name__ == "__main__":
    _serve()
