"""Keeps a handful of programs running: restarts what dies, prefixes what they print, and ends all of it together.

Each program leads a process group and session of its own, so a Ctrl-C in the terminal reaches only the supervisor,
which ends its programs in order. Programs start processes of their own; who they are is noted while they live, because
the children of a dead process can no longer be found. One thread, no locks.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from app.core.render.visible import visible

GRACE_S = 5.0
"""How long programs that were told to stop may take before they are killed."""
STEADY_S = 60.0
"""A program that ran that long is restarted at once when it dies; one that did not waits longer each time."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
NOTE_S = 1.0
"""Seconds between two looks at the processes that programs have started."""
STEP_S = 0.2
LINE_BYTES = 8192
"""Longest piece of a line that is shown as one."""


@dataclass(frozen=True)
class Program:
    """What is kept running.

    Attributes:
        name: prefix of its lines.
        environment: the whole environment of the process.
        given: what it finds on standard input.
        files: descriptors that it inherits.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    given: bytes = b""
    files: tuple[int, ...] = ()


@dataclass
class _Running:
    """A program and its latest process."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    family: set[psutil.Process] = field(default_factory=set)
    pending: bytes = b""
    started: float = 0.0
    due: float = 0.0
    failures: int = 0


class Supervisor:
    """Runs programs until it is told to stop; use it in a `with` statement.

    Args:
        programs: started in this order and ended in the reverse one: the first is there for the others.
        directory: where they run.
        log: takes one line at a time, without its end.
    """

    def __init__(self, programs: Iterable[Program], directory: Path, log: Callable[[str], None]) -> None:
        self._running = [_Running(program) for program in programs]
        self._directory = directory
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._noted = 0.0
        self.deaths = 0

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._selector.close()

    def step(self) -> None:
        """Starts what is due, passes on what was printed, notices deaths; takes `STEP_S` at most where all is well."""
        for running in self._running:
            if running.process is None and time.monotonic() >= running.due:
                self._start(running)
        self._pump(STEP_S)
        self._note_families()
        for running in self._running:
            if running.process is not None and running.process.poll() is not None:
                self._bury(running)

    def stop(self) -> None:
        """Ends everything: politely and in order, then by force. Nothing that was started is left."""
        self._noted = 0.0
        self._note_families()
        first, rest = self._running[:1], self._running[1:]
        for group in (rest, first):
            self._ask_to_end(group)
        for running in self._running:
            self._clear(running)

    def pids(self) -> dict[str, int]:
        """The process of each program that runs now."""
        return {it.program.name: it.process.pid for it in self._running if it.process is not None}

    def _start(self, running: _Running) -> None:
        program = running.program
        process = subprocess.Popen(
            program.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._directory,
            env=program.environment,
            pass_fds=program.files,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  # both are pipes
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(program.given)
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, running)
        running.process, running.started = process, time.monotonic()

    def _pump(self, seconds: float) -> None:
        """Passes on what programs print."""
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, LINE_BYTES)
            if data:
                self._print(key.data, data)
            else:
                self._selector.unregister(key.fileobj)

    def _print(self, running: _Running, data: bytes) -> None:
        *lines, rest = (running.pending + data).split(b"\n")
        while len(rest) > LINE_BYTES:
            lines.append(rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
        running.pending = rest
        for line in lines:
            self._say(running, line.decode("utf-8", "replace"))

    def _say(self, running: _Running, line: str) -> None:
        self._log(f"{running.program.name:<9}| {visible(line, LINE_BYTES)}")

    def _note_families(self) -> None:
        """Notes who belongs to whom, every `NOTE_S`."""
        if time.monotonic() - self._noted < NOTE_S:
            return
        self._noted = time.monotonic()
        for running in self._running:
            if running.process is not None:
                with suppress(psutil.NoSuchProcess):
                    running.family |= set(psutil.Process(running.process.pid).children(recursive=True))
            running.family = {one for one in running.family if one.is_running()}

    def _bury(self, running: _Running) -> None:
        """A program has died: what it left is ended, and it is due again after a while."""
        assert running.process is not None  # noqa: S101  # who calls has seen it die
        how = _how(running.process.returncode)
        lasted = time.monotonic() - running.started
        self._clear(running)
        self.deaths += 1
        running.failures = 0 if lasted >= STEADY_S else running.failures + 1
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** max(0, running.failures - 1))
        running.due = time.monotonic() + wait
        self._say(running, f"{how}; starting it again in {wait:g} s")

    def _ask_to_end(self, group: Sequence[_Running]) -> None:
        """SIGTERM, and at most `GRACE_S` to follow it."""
        alive = [it.process for it in group if it.process is not None]
        for process in alive:
            process.terminate()
        until = time.monotonic() + GRACE_S
        while any(process.poll() is None for process in alive) and time.monotonic() < until:
            self._pump(0.05)

    def _clear(self, running: _Running) -> None:
        """Kills what is left of a program and of all that it started, and reads the end of what it printed."""
        process, running.process = running.process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(process.pid, signal.SIGKILL)
        for one in running.family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        running.family.clear()
        self._pump(0)
        self._drop(process, running)

    def _drop(self, process: subprocess.Popen[bytes], running: _Running) -> None:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        with suppress(KeyError):
            self._selector.unregister(process.stdout)
        process.stdout.close()
        if running.pending:
            self._print(running, b"\n")


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT, SIGTERM or SIGHUP has come; within it they are only noted, and what is ignored stays so."""
    seen: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        seen.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
