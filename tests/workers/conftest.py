"""Hosts that misbehave, started for real, and the certainty that no process outlives a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.settings import host_environment
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
