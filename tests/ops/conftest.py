"""A real `touchstone up` on a port of its own, with tiny models below its root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.engine.tiny import make_tiny_adapter, make_tiny_model

ROOT = Path(__file__).parents[2]
DEADLINE_S = 240.0
"""Long enough for a busy machine; nothing waits that long where all is well."""


@dataclass
class Up:
    """A running `touchstone up`."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    said: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    url: str = ""
    key: str = ""

    def touchstone(self, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of the command line against it."""
        environment = self.environment | {"TOUCHSTONE_URL": self.url, "TOUCHSTONE_KEY": key or self.key}
        command = [sys.executable, "-m", "app.cli", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )

    def family(self) -> set[psutil.Process]:
        """Every process that it has started and that lives."""
        return set(psutil.Process(self.process.pid).children(recursive=True))

    def commands(self) -> dict[psutil.Process, str]:
        """The command line of every process of its family; empty of one that has just died."""
        return {one: _command(one) for one in self.family()}

    def part(self, word: str) -> psutil.Process:
        """Its child whose command line has a word."""
        children = psutil.Process(self.process.pid).children()
        (found,) = [one for one in children if word in _command(one)]
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tells it to stop; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def logged(self) -> str:
        """All that it printed, for messages of tests that fail."""
        return "\n".join([*self.said, *self.log])


@dataclass(frozen=True)
class Models:
    """A root with a tiny base and an adapter of it."""

    root: Path
    base: Path
    subject: Path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    root = tmp_path_factory.mktemp("models")
    base = make_tiny_model(root / "tiny-base")
    return Models(root, base, make_tiny_adapter(base, root / "tiny-adapter"))


def environment_of(root: Path, models: Models, **settings: str) -> dict[str, str]:
    """What `up` and commands are started with."""
    given = {"cache_dir": str(root / "cache"), "roots": str(models.root), "threads": "1", "tick_s": "1", "lease_s": "5"}
    chosen = {f"TOUCHSTONE_{name.upper()}": value for name, value in (given | settings).items()}
    return {name: value for name, value in os.environ.items() if not name.startswith("TOUCHSTONE_")} | chosen


@contextmanager
def running(data_dir: Path, environment: Mapping[str, str], *options: str) -> Iterator[Up]:
    """`touchstone up`, once its address is printed; ended with all that it started."""
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--data-dir", str(data_dir), *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    up = Up(process, dict(environment))
    readers = [
        threading.Thread(target=_read, args=(stream, lines))
        for stream, lines in ((process.stdout, up.said), (process.stderr, up.log))
    ]
    for reader in readers:
        reader.start()
    try:
        _await_address(up)
        yield up
    finally:
        _end(up)
        for reader in readers:
            reader.join()


def _command(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def _read(stream: object, lines: list[str]) -> None:
    with stream as opened:  # type: ignore[attr-defined]
        for line in opened:
            lines.append(line.rstrip("\n"))


def _await_address(up: Up) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not up.url:
        assert up.process.poll() is None, up.logged()
        assert time.monotonic() < deadline, up.logged()
        for line in list(up.said):
            if line.startswith("Touchstone is at "):
                up.url = line.split()[-1]
            if line.startswith("first admin key"):
                up.key = line.split()[-1]
        time.sleep(0.05)


def _end(up: Up) -> None:
    """Whatever a test left of it."""
    if up.process.poll() is None:
        family = up.family()
        up.process.kill()
        for one in family:
            if one.is_running():
                one.kill()
    up.process.wait(DEADLINE_S)
