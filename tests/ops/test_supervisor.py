"""The supervisor with real processes: what dies comes back, what was started ends, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app import supervisor
from app.supervisor import Program, Supervisor, stop_signals

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
DEADLINE_S = 60.0

SLEEPS = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)
PARENT = """
import subprocess, sys, time
started = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=new)
           for new in (False, True)]
print("children", *(one.pid for one in started), flush=True)
time.sleep(600)
"""


def program(name: str, code: str, **options: object) -> Program:
    return Program(name, (sys.executable, "-u", "-c", code), ENVIRONMENT, **options)  # type: ignore[arg-type]


def until(running: Supervisor, holds: Callable[[], bool]) -> None:
    """Lets the supervisor work until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        running.step()


def gone(pid: int) -> bool:
    """A zombie that nobody reaps has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def supervise(tmp_path: Path, lines: list[str]) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(*programs: Program) -> Supervisor:
        made.append(Supervisor(programs, tmp_path, lines.append))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_lines_are_prefixed_and_obey_no_escape(supervise: Callable[..., Supervisor], lines: list[str]) -> None:
    running = supervise(program("api", "import os, time; os.write(1, b'one\\x1b[2J\\nhalf'); time.sleep(600)"))
    until(running, lambda: bool(lines))
    assert lines == ["api      | one⟨U+001B ESCAPE⟩[2J"]
    running.stop()
    assert lines[1] == "api      | half"


def test_a_line_without_end_is_shown_in_pieces(supervise: Callable[..., Supervisor], lines: list[str]) -> None:
    size = 3 * supervisor.LINE_BYTES
    running = supervise(program("api", f"print('x' * {size}); import time; time.sleep(600)"))
    until(running, lambda: sum(line.count("x") for line in lines) == size)
    assert max(map(len, lines)) <= supervisor.LINE_BYTES + 20


def test_a_program_gets_its_input_its_environment_and_its_files(
    supervise: Callable[..., Supervisor], lines: list[str], tmp_path: Path
) -> None:
    code = (
        "import os, sys; print(sys.stdin.read(), sorted(os.environ), os.getcwd(), os.fstat(int(sys.argv[-1])).st_size)"
    )
    with (tmp_path / "file").open("w+") as file:
        file.write("12345")
        file.flush()
        made = Program(
            "one",
            (sys.executable, "-u", "-c", code, str(file.fileno())),
            {"A": "1", "LC_CTYPE": "C.UTF-8"},
            given=b"config",
            files=(file.fileno(),),
        )
        running = supervise(made)
        until(running, lambda: bool(lines))
    assert lines[0] == f"one      | config ['A', 'LC_CTYPE'] {tmp_path} 5"


def test_what_dies_comes_back_with_its_leftovers_gone(
    supervise: Callable[..., Supervisor], lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "NOTE_S", 0.0)
    running = supervise(program("first", SLEEPS), program("parent", PARENT))
    until(running, lambda: any("children" in line for line in lines))
    running.step()  # sees who the children are
    before = running.pids()
    children = [int(pid) for pid in lines[0].split()[-2:]]
    os.kill(before["parent"], signal.SIGKILL)
    until(running, lambda: sum("children" in line for line in lines) == 2)
    assert running.pids()["parent"] != before["parent"]
    assert running.pids()["first"] == before["first"]
    assert all(gone(pid) for pid in children)
    assert "parent   | was ended by SIGKILL; starting it again in 0.5 s" in lines
    assert running.deaths == 1


def test_what_dies_again_and_again_waits_longer(
    supervise: Callable[..., Supervisor], lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT_S", 0.03)
    running = supervise(program("bad", "import sys; sys.exit(7)"))
    until(running, lambda: running.deaths == 4)
    waits = [line.rpartition(" in ")[2] for line in lines]
    assert waits == ["0.01 s", "0.02 s", "0.03 s", "0.03 s"]
    assert lines[0].startswith("bad      | ended with status 7")


def test_what_ran_steadily_is_forgiven(
    supervise: Callable[..., Supervisor], lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STEADY_S", 0.0)
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 0.01)
    running = supervise(program("old", "pass"))
    until(running, lambda: running.deaths == 3)
    assert {line.rpartition(" in ")[2] for line in lines} == {"0.01 s"}


def test_the_first_is_there_until_the_others_have_ended(supervise: Callable[..., Supervisor], lines: list[str]) -> None:
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n    time.sleep({}); print('ended'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready')\ntime.sleep(600)"
    )
    running = supervise(program("broker", code.format(0)), program("worker", code.format(0.3)))
    until(running, lambda: sum("ready" in line for line in lines) == 2)
    running.stop()
    assert lines[2:] == ["worker   | ended", "broker   | ended"]


def test_what_does_not_want_to_end_is_killed_with_all_it_started(
    supervise: Callable[..., Supervisor], lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_S", 0.3)
    running = supervise(program("deaf", STUBBORN), program("parent", PARENT))
    until(running, lambda: len(lines) == 2)
    (said,) = [line for line in lines if "children" in line]
    pids = [*running.pids().values(), *map(int, said.split()[-2:])]
    running.stop()
    assert all(gone(pid) for pid in pids)
    assert running.pids() == {}


STOPPED = """
import os, sys
from app.supervisor import stop_signals
with stop_signals() as stopped:
    print("ready", flush=True)
    while not stopped():
        pass
print("left", flush=True)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_noted(stop: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(stop, signal.SIG_DFL),
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(stop)
    assert child.communicate(timeout=DEADLINE_S)[0] == "left\n"
    assert child.returncode == 0


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)
