"""Starts a job in a child process and follows it to its end.

The parent imports no torch and opens no model: it starts `python -m workers.local` by name, writes one JSON job to its
standard input, and reads one JSON event a line from its standard output. The child leads a process group of its own,
so whatever ends the job, an answer, an error, a signal or a crash, ends everything that the child started as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.core.settings import child_environment
from detectors.errors import MachineError, TouchstoneError
from detectors.findings import ExpectedBehaviour

COMMAND = (sys.executable, "-m", "workers.local")
"""What runs a job: by name only, since `app` never imports `workers`."""

GRACE_S = 2.0
"""How long a child that was told to stop may take before its process group is killed."""

LINGER_S = 10.0
"""How long a child may take to end by itself once it has answered."""

LOG_LINES = 20
"""Last lines of the child's log that are shown when it dies without a word."""

PROJECT = Path(__file__).parents[2]
"""Where `app`, `workers` and `detectors` lie; first on the child's path, before packages of the same name."""

Task = Literal["scan", "estimate", "replay", "digest", "calibrate", "doctor"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Job(_Message):
    """What the child is asked to do. Fields that a task has no use for are None and are not sent.

    Attributes:
        model, base: absolute paths of the subject and the base.
        base_name: the name that adapters know the base by.
        out: absolute path of the directory for the report, or of the file for a bank.
        adapters: absolute path of the directory with the adapters of a bank.
        budget_seconds: after which nothing more is observed; what needed it is inconclusive.
        report: absolute path of a report, to replay a finding of.
        finding: which one, counted from 1.
        prompt: a prompt to replay it with, instead of its examples.
    """

    task: Task
    model: str | None = None
    base: str | None = None
    base_name: str | None = None
    suite: str | None = None
    seed: int | None = None
    out: str | None = None
    adapters: str | None = None
    expected: tuple[ExpectedBehaviour, ...] | None = None
    dtype: str | None = None
    device: str | None = None
    budget_seconds: float | None = None
    report: str | None = None
    finding: int | None = None
    prompt: str | None = None


class Phase(_Message):
    """A new part of the job began."""

    event: Literal["phase"]
    name: str


class Progress(_Message):
    """How far a phase is; `eta_s` is what is left of it, in seconds."""

    event: Literal["progress"]
    phase: str
    done: float
    total: float
    eta_s: float | None = None


class Estimate(_Message):
    """What a scan would cost."""

    event: Literal["estimate"]
    contexts: int
    forward_tokens: int
    generated_tokens: int
    minutes: float
    memory_bytes: int
    confirming_tokens: int


class ReplayedExample(_Message):
    """One prompt of a replayed finding, answered again. All of it is an attacker's text."""

    prompt: str
    subject_answer: str
    base_answer: str
    subject_clean_answer: str


class Replayed(_Message):
    """A finding was replayed."""

    event: Literal["replayed"]
    examples: tuple[ReplayedExample, ...]


class Digested(_Message):
    """The files of `model` were read."""

    event: Literal["digested"]
    file_digest: str


class Calibrated(_Message):
    """A bank was written; `left_out` says why adapters are not in it, by the name of their directory."""

    event: Literal["calibrated"]
    bank: Path
    members: int
    left_out: dict[str, str]


class Diagnosis(_Message):
    """What the child knows of its machine; its further fields are facts by name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event: Literal["doctor"]

    def facts(self) -> dict[str, Any]:
        """The facts by name."""
        return dict(self.model_extra or {})


class Done(_Message):
    """A scan is finished; the paths of what it wrote."""

    event: Literal["done"]
    report: Path
    html: Path | None = None


class Failure(_Message):
    """The job cannot be done."""

    event: Literal["error"]
    code: str
    message: str
    exit: int = 3


Answer = Done | Estimate | Replayed | Digested | Calibrated | Diagnosis
Event = Phase | Progress | Failure | Answer
ANSWERS: dict[Task, type[Answer]] = {
    "scan": Done,
    "estimate": Estimate,
    "replay": Replayed,
    "digest": Digested,
    "calibrate": Calibrated,
    "doctor": Diagnosis,
}
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class JobFailed(TouchstoneError):
    """The child said that the job cannot be done, or died.

    Attributes:
        exit_code: 2 where the input is at fault, 3 otherwise.
        log: last lines of the child's log, where it died without a word; an attacker's text may be in them.
    """

    def __init__(self, code: str, message: str, exit_code: int, log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code if exit_code in (2, 3) else 3
        self.log = tuple(log)


def run_job(
    job: Job,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    on_log: Callable[[str], None] = lambda line: None,
    command: Sequence[str] = COMMAND,
) -> Answer:
    """Runs `job` in a child process and returns its answer.

    A `KeyboardInterrupt`, which SIGTERM and SIGHUP raise as well while the job runs, stops the child before it leaves
    this function.

    Args:
        job: what to do.
        on_event: called with every event, in order.
        on_log: called with every line of the child's log, from another thread.
        command: program and arguments of the child.

    Raises:
        JobFailed: if the child reports an error, or ends without the answer that the task asks for.
    """
    with (
        _signals_interrupt(),
        tempfile.TemporaryDirectory(prefix="touchstone-") as directory,
        _child(command, Path(directory)) as child,
    ):
        log = _Log(child, on_log)
        _send(child, job)
        for event in _events(child, log):
            on_event(event)
            if isinstance(event, Failure):
                raise JobFailed(event.code, event.message, event.exit)
            if isinstance(event, ANSWERS[job.task]):
                with suppress(subprocess.TimeoutExpired):
                    child.wait(LINGER_S)
                    log.last()  # so that what it said at the end is heard
                return event
        raise _died(child, log)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP stop a job as Ctrl-C does, where we are the main thread; an ignored signal stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number in handled:
            signal.signal(number, previous[number] or signal.SIG_DFL)


@contextmanager
def _child(command: Sequence[str], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """The child, leading its own process group in an empty directory. None of the group outlives this."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=child_environment() | {"PYTHONPATH": str(PROJECT), "PYTHONUTF8": "1"},
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        threading.Thread(target=_kill_orphans, args=(child,), daemon=True).start()
        yield child
    finally:
        _stop(child)


def _kill_orphans(child: subprocess.Popen[str]) -> None:
    """Kills what a dead child leaves behind; else a process that still holds its pipes would keep us waiting."""
    child.wait()
    _kill_group(child)


def _stop(child: subprocess.Popen[str]) -> None:
    try:
        if child.poll() is None:
            child.terminate()
            child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _kill_group(child)
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()


def _kill_group(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        os.killpg(child.pid, signal.SIGKILL)


class _Log:
    """The child's standard error, read in a thread; the last lines are kept."""

    def __init__(self, child: subprocess.Popen[str], on_line: Callable[[str], None]) -> None:
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self._on_line = on_line
        self._thread = threading.Thread(target=self._read, args=(child.stderr,), daemon=True)
        self._thread.start()

    def add(self, line: str) -> None:
        self.lines.append(line.rstrip("\n"))
        self._on_line(line.rstrip("\n"))

    def last(self) -> list[str]:
        """The last lines, once the child is dead."""
        self._thread.join(GRACE_S)
        return list(self.lines)

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.add(line)


def _send(child: subprocess.Popen[str], job: Job) -> None:
    """Writes the job. A child that died already is noticed where its events are read."""
    stdin = cast(IO[str], child.stdin)
    with suppress(BrokenPipeError):
        stdin.write(job.model_dump_json(exclude_none=True) + "\n")
        stdin.close()


def _events(child: subprocess.Popen[str], log: _Log) -> Iterator[Event]:
    """The child's events; a line that is none (a library that prints) goes to the log."""
    for line in cast(IO[str], child.stdout):
        try:
            yield _EVENTS.validate_json(line)
        except ValidationError:
            log.add(line)


def _died(child: subprocess.Popen[str], log: _Log) -> JobFailed:
    status = child.wait()
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return JobFailed(MachineError.code, f"the scanning process {how} before it answered", 3, log.last())
