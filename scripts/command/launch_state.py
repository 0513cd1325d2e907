"""``launch.json`` in the data directory: what runs for it, written before it is started; ``down`` stops exactly that.

Whose a process is, ``process_identity.py`` knows. The file holds the token that lets into the
cluster's Ray: only its owner may read it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import orjson

from filoray.cluster.errors import FilorayError
from filoray.cluster.process.owner_files import write_whole
from filoray.cluster.process.process_identity import ProcessIdentity, carriers_of, end_processes, session_of_launch
from filoray.command.ray_runtime import RayRuntime

STATE_FILE = "launch.json"
_VERSION = 2


@dataclass(slots=True)
class LaunchState:
    """``ray`` is None on a Ray that was there already. ``token`` is in the environment of all that was started."""

    cluster_name: str
    token: str
    ray_address: str
    ray: RayRuntime | None
    urls: list[str]
    feeder: ProcessIdentity | None = None
    supervisor: ProcessIdentity | None = None

    def write(self, data_dir: Path) -> None:
        """All or nothing. Raises FilorayError if the directory does not take it."""
        data = orjson.dumps({"version": _VERSION, **dataclasses.asdict(self)}, option=orjson.OPT_INDENT_2)
        try:
            write_whole(data_dir / STATE_FILE, data)
        except OSError as error:
            raise FilorayError(f"cannot keep data in {data_dir}: {STATE_FILE} cannot be written: {error}") from None

    @classmethod
    def read(cls, data_dir: Path) -> LaunchState | None:
        """None if there is none. Raises FilorayError, saying what to do, if it cannot be understood."""
        path = data_dir / STATE_FILE
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FilorayError(f"{path} cannot be read, so what runs there is not known: {error}") from None
        unknown = "is not what a launch wrote, so what runs there is not known"
        remedy = f"if no cluster runs on {data_dir} (as after a restart of the machine), remove the file"
        if not text.strip():
            raise FilorayError(f"{path} is empty, so what runs there is not known; {remedy}")
        try:
            plain = orjson.loads(text)
            version = plain.pop("version", 1)
        except (ValueError, AttributeError, TypeError):
            raise FilorayError(f"{path} {unknown}; {remedy}") from None
        if version != _VERSION:
            raise FilorayError(
                f"{path} is of another version of filoray (form {version}, this one reads {_VERSION}): stop that "
                f"cluster with the version that launched it; {remedy}"
            )
        try:
            ray, feeder, supervisor = (plain.pop(name) for name in ("ray", "feeder", "supervisor"))
            return cls(
                ray=RayRuntime(**ray) if ray else None,
                feeder=ProcessIdentity(**feeder) if feeder else None,
                supervisor=ProcessIdentity(**supervisor) if supervisor else None,
                **plain,
            )
        except (KeyError, TypeError):
            raise FilorayError(f"{path} {unknown}; {remedy}") from None

    @classmethod
    def of_launch(cls, data_dir: Path) -> LaunchState:
        """As ``read``; raises FilorayError also if there is none."""
        state = cls.read(data_dir)
        if state is None:
            raise FilorayError(f"no cluster was launched on {data_dir} (there is no {STATE_FILE} in it)")
        return state

    def is_unfinished(self) -> bool:
        """On a Ray of its own, a launch gets its supervisor before it says that the cluster is up."""
        return self.ray is not None and self.supervisor is None

    def is_supervised(self) -> bool:
        return self.supervisor is not None and self.supervisor.is_running()

    def supervision(self) -> str:
        """Who brings Ray back, for the operator."""
        if self.ray is None:
            return "the cluster is on a Ray that it joined: it has no supervisor, who runs that Ray must bring it back"
        if not self.is_supervised():
            return "the supervisor has ended: nobody brings Ray back if it dies; stop the cluster and launch it again"
        assert self.supervisor is not None
        return f"the supervisor brings Ray back if it dies (process {self.supervisor.pid}, supervisor.log)"

    def end_supervisor(self) -> None:
        """With what it is just starting, so that nothing is brought back while it is stopped."""
        if self.supervisor is not None:
            end_processes(session_of_launch(self.supervisor.pid, self.token), polite_s=0)

    def end_carriers(self) -> None:
        """What was started and could not be noted any more, as its starter was killed at that moment."""
        end_processes(carriers_of(self.token), polite_s=0)

    def end_feeder(self) -> None:
        if self.feeder is not None:
            end_processes([self.feeder], polite_s=2)
