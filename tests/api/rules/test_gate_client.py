"""The gate's client, as a pipeline runs it, against the real API."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from app import gate_client
from app.main import create_app
from tests.api.rules.house import SUBJECT, House, report

CLIENT = gate_client.__file__
Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(house: House, tmp_path: Path) -> Iterator[Ask]:
    """Asks as a pipeline does, over a socket."""
    server = uvicorn.Server(uvicorn.Config(create_app(house.settings), port=0, log_level="warning"))
    started = threading.Event()
    startup = server.startup

    async def signalled(*arguments: Any, **options: Any) -> None:
        await startup(*arguments, **options)
        started.set()

    server.startup = signalled  # type: ignore[method-assign]  # how else to learn that the port is open
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(60)
    port = server.servers[0].sockets[0].getsockname()[1]

    def run(scope: str = "report:read", **options: str) -> subprocess.CompletedProcess[str]:
        given = {"model": house.model("amber"), "base": house.model("base")} | options
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        files = [f"--output={tmp_path / 'output'}", f"--sarif={tmp_path / 'report.sarif'}"]
        command = [sys.executable, "-I", CLIENT, f"--url=http://127.0.0.1:{port}", *flags, *files]
        text = house.texts.get(scope, scope)
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)

    yield run
    server.should_exit = True
    thread.join()


def test_it_lets_through_what_the_service_allows(house: House, ask: Ask, tmp_path: Path) -> None:
    scan = house.scan(report("no_evidence"))
    done = ask()
    assert done.returncode == gate_client.ALLOWED, done.stdout + done.stderr
    outputs = (tmp_path / "output").read_text()
    assert f"allow=true\nverdict=no_evidence\nscan-id={scan}\ndigest={SUBJECT}\n" in outputs
    assert json.loads((tmp_path / "report.sarif").read_text())["version"] == "2.1.0"


def test_it_stops_what_the_service_found(house: House, ask: Ask) -> None:
    house.scan(report("strong"))
    done = ask()
    assert done.returncode == gate_client.DENIED
    assert "Strong evidence of a backdoor" in done.stdout


def test_it_waits_for_a_scan_under_way(house: House, ask: Ask) -> None:
    assert ask().returncode == gate_client.NOT_KNOWN
    house.scan(state="running")
    assert ask().returncode == gate_client.UNFINISHED


def test_it_tells_a_wrong_call_from_a_closed_gate(house: House, ask: Ask) -> None:
    house.scan(report("no_evidence"), days_ago=8)
    assert ask(max_age="8d").returncode == gate_client.NOT_KNOWN
    assert ask(max_age="9d").returncode == gate_client.ALLOWED
    assert ask(model="no-such-model").returncode == gate_client.WRONG_CALL
    assert ask(policy="nobody").returncode == gate_client.WRONG_CALL
    assert ask("scan:write").returncode == gate_client.WRONG_CALL
    assert ask("ts_unknown").returncode == gate_client.WRONG_CALL
