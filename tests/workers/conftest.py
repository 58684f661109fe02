"""Hosts that misbehave, started for real, and the certainty that no process outlives a test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.scanning import Job, Task, run_job
from app.core.settings import child_environment, host_environment
from detectors.report import Report
from tests.engine.tiny import make_tiny_adapter, make_tiny_model
from workers.hosts import Host, HostSpec
from workers.scan import PROJECT

HOSTS = Path(__file__).with_name("hostile_hosts.py")
SPEC = HostSpec(
    directory=Path("model"),
    adapter=None,
    tokenizer=Path("model"),
    template=None,
    dtype="float32",
    device="cpu",
    threads=1,
    memory_budget_bytes=2**28,
    memory_limit_bytes=0,
)

StartHost = Callable[..., Host]


@dataclass(frozen=True)
class Workshop:
    """A tiny base, an adapter of it, and where the first scan of that pair kept its observations and report."""

    base: Path
    model: Path
    cache: Path
    out: Path

    def job(self, task: Task, **changes: Any) -> Job:
        """A job on the pair, on one processor in float32."""
        fields: dict[str, Any] = {
            "model": str(self.model),
            "base": str(self.base),
            "suite": "smoke",
            "seed": 3,
            "out": str(self.out),
            "dtype": "float32",
            "device": "cpu",
        } | changes
        return Job(task=task, **fields)


@contextmanager
def cache_at(directory: Path) -> Iterator[None]:
    """Jobs started within keep their observations there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOUCHSTONE_CACHE_DIR", str(directory))
        patch.setenv("TOUCHSTONE_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The pair, scanned once by a real child process."""
    root = tmp_path_factory.mktemp("workshop")
    base = make_tiny_model(root / "tiny-base")
    made = Workshop(base, make_tiny_adapter(base, root / "tiny-adapter"), root / "cache", root / "out")
    with cache_at(made.cache):
        run_job(made.job("scan"))
    return made


def read_report(directory: Path) -> Report:
    return Report.model_validate_json((directory / "report.json").read_text())


def plain(report: Report) -> dict[str, Any]:
    """The report without what another run may change."""
    fields: dict[str, Any] = json.loads(report.model_dump_json())
    for name in ("created", "seconds"):
        del fields[name]
    for name in ("isolation", "device"):
        del fields["machine"][name]
    for result in fields["results"]:
        del result["usage"]
    return fields


def gone(pid: int) -> bool:
    """Whether a process has ended; one that its new parent has yet to collect has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def child_scan(job: Job) -> Iterator[subprocess.Popen[str]]:
    """`python -m workers.local` on a job, its events to be read from standard output."""
    command = [sys.executable, "-m", "workers.local"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        cwd=PROJECT,
        text=True,
    ) as child:
        try:
            assert child.stdin
            child.stdin.write(job.model_dump_json(exclude_none=True) + "\n")
            child.stdin.flush()
            yield child
        finally:
            child.kill()


def events(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert child.stdout
    for line in child.stdout:
        yield json.loads(line)


def start_host(mode: str, **changes: Any) -> Host:
    """A host of `hostile_hosts.py`."""
    arguments: dict[str, Any] = {
        "environment": host_environment(str(PROJECT)),
        "watch": lambda: None,
        "command": (sys.executable, str(HOSTS), mode),
        "message_seconds": 60.0,
    } | changes
    return Host(SPEC, **arguments)


@pytest.fixture
def start() -> Iterator[StartHost]:
    """Starts hosts and ends them after the test."""
    started: list[Host] = []

    def begin(mode: str, **changes: Any) -> Host:
        started.append(start_host(mode, **changes))
        started[-1].greet()
        return started[-1]

    yield begin
    for host in started:
        host.end()


@pytest.fixture(autouse=True, scope="module")
def no_child_left() -> Iterator[None]:
    """Tests leave no child of theirs, not even a dead one that nobody waited for."""
    before = children()
    yield
    assert children() - before == set()


def children() -> set[int]:
    """Processes below this one, zombies included."""
    return {process.pid for process in psutil.Process().children(recursive=True)}
