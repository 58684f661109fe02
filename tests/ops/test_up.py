"""`touchstone up` with real processes: a scan from the command line to its report, deaths, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.ops.conftest import DEADLINE_S, ROOT, Models, Up, environment_of, running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def up(place: Path, models: Models) -> Iterator[Up]:
    with running(place / "data", environment_of(place, models)) as started:
        yield started


def eventually(holds: Callable[[], bool], up: Up) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, up.logged()
        time.sleep(0.05)


def alive(processes: set[psutil.Process]) -> set[psutil.Process]:
    return {one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE}


def test_a_scan_goes_from_the_command_line_to_its_report(up: Up, models: Models) -> None:
    done = up.touchstone("submit", "tiny-adapter", "--base", "tiny-base", "--suite", "smoke", "--wait", "--json")
    assert done.returncode in (0, 1, 3), done.stderr + up.logged()
    scan = json.loads(done.stdout)
    assert scan["state"] == "succeeded", scan
    shown = up.touchstone("report", scan["id"])
    assert shown.returncode == 0, shown.stderr
    report = json.loads(up.touchstone("report", scan["id"], "--format", "json").stdout)
    assert report["decision"]["verdict"] == scan["verdict"]
    gate = json.loads(up.touchstone("gate", "tiny-adapter", "--base", "tiny-base", "--json").stdout)
    assert gate["subject_digest"] == report["report"]["subject"]["file_digest"]
    assert up.touchstone("wait", scan["id"]).returncode == done.returncode


def test_keys_are_made_used_and_ended(up: Up) -> None:
    made = up.touchstone("keys", "create", "pipeline", "--scope", "report:read", "--expires", "1d")
    assert made.returncode == 0, made.stderr
    reader = made.stdout.strip()
    refused = up.touchstone("submit", "tiny-adapter", key=reader)
    assert (refused.returncode, "TS-ERR-603" in refused.stderr) == (2, True), refused.stderr
    (listed,) = [it for it in json.loads(up.touchstone("keys", "list", "--json").stdout) if it["name"] == "pipeline"]
    rotated = up.touchstone("keys", "rotate", listed["id"], "--grace", "0s")
    assert up.touchstone("gate", "tiny-adapter", key=reader).returncode == 2
    assert up.touchstone("gate", "tiny-adapter", key=rotated.stdout.strip()).returncode in (0, 1, 3)
    assert up.touchstone("keys", "revoke", listed["id"]).returncode == 0


def test_a_wrong_reference_is_explained(up: Up) -> None:
    refused = up.touchstone("submit", "/etc", "--base", "tiny-base")
    assert refused.returncode == 2
    assert "TS-ERR-141" in refused.stderr


def test_what_is_secret_is_not_to_be_seen(up: Up, place: Path) -> None:
    assert stat.S_IMODE((place / "data").stat().st_mode) == 0o700
    said = [*up.commands().values(), *psutil.Process(up.process.pid).cmdline()]
    assert not [words for words in said if up.key in words or "redis://:" in words]
    assert not [line for line in up.log if up.key in line]


def test_the_broker_wants_its_password(up: Up) -> None:
    (listening,) = [it for it in up.part("valkey-server").net_connections() if it.status == psutil.CONN_LISTEN]
    assert listening.laddr.ip == "127.0.0.1"
    with socket.create_connection(listening.laddr) as connection:
        connection.sendall(b"*1\r\n$4\r\nKEYS\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")


def test_a_second_one_on_the_same_data_is_refused(up: Up, place: Path) -> None:
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--data-dir", str(place / "data")]
    second = subprocess.run(command, cwd=ROOT, env=up.environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert second.returncode == 2
    assert "TS-ERR-160" in second.stderr
    assert "another `touchstone up` runs on" in second.stderr


def test_a_port_that_is_taken_starts_nothing(up: Up, tmp_path: Path) -> None:
    port = up.url.rpartition(":")[2]
    command = [sys.executable, "-m", "app.cli", "up", "--port", port, "--data-dir", str(tmp_path / "data")]
    second = subprocess.run(command, cwd=ROOT, env=up.environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in second.stderr
    assert not (tmp_path / "data" / "touchstone.sqlite").exists()


@pytest.mark.parametrize("word", ["celery", "uvicorn", "app.core.ticker", "valkey-server"])
def test_a_part_that_is_killed_is_started_again(up: Up, word: str) -> None:
    before = up.part(word)
    family = set(before.children(recursive=True))
    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: not alive({before, *family}), up)
    eventually(lambda: any(before.pid != one.pid and word in said for one, said in up.commands().items()), up)
    eventually(lambda: _answers(up), up)


def _answers(up: Up) -> bool:
    try:
        return httpx2.get(f"{up.url}/readyz", timeout=5).is_success
    except httpx2.HTTPError:
        return False


def test_the_service_works_on_after_deaths(up: Up) -> None:
    """The queue was lost with the broker; another seed makes it a scan of its own."""
    done = up.touchstone("submit", "tiny-adapter", "--base", "tiny-base", "--suite", "smoke", "--seed", "7", "--wait")
    assert done.returncode in (0, 1, 3), done.stderr + up.logged()
    assert "(scan " in done.stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_of_a_scan_leaves_no_process(tmp_path: Path, models: Models, stop: signal.Signals) -> None:
    with running(tmp_path / "data", environment_of(tmp_path, models), "--workers", "2") as up:
        accepted = up.touchstone("submit", "tiny-adapter", "--base", "tiny-base", "--suite", "smoke")
        assert accepted.returncode == 0, accepted.stderr
        eventually(lambda: any("workers.host" in said for said in up.commands().values()), up)
        family = up.family()
        assert up.stop(stop) == 0, up.logged()
        assert up.said[-1] == "stopped"
        assert not alive(family)
    with running(tmp_path / "data", environment_of(tmp_path, models)) as again:
        assert again.key == ""
        again.key = up.key
        done = again.touchstone("wait", accepted.stdout.strip())
        assert done.returncode in (0, 1, 3), done.stderr + again.logged()
        assert "scan" in done.stdout


def test_what_a_killed_one_leaves_is_ended_by_the_next(tmp_path: Path, models: Models) -> None:
    with running(tmp_path / "data", environment_of(tmp_path, models)) as up:
        family = up.family()
        up.process.kill()
        up.process.wait(DEADLINE_S)
        assert alive(family)
        with running(tmp_path / "data", environment_of(tmp_path, models)) as again:
            assert not alive(family)
            assert again.stop() == 0


def test_a_service_that_cannot_start_says_so(tmp_path: Path, models: Models) -> None:
    environment = environment_of(tmp_path, models, database_url="postgresql://nobody@127.0.0.1:1/none")
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 3, done.stderr
    assert "TS-ERR-204" in done.stderr
