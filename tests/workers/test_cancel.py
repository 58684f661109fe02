"""SIGTERM ends a scan soon, with its hosts, and leaves nothing half-written."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from app.core.stores.observations import SqliteStore
from detectors.errors import ScanCancelled
from tests.workers.conftest import Workshop, cache_at, child_scan, events, gone, wait_until

SOON_S = 10.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels(workshop: Workshop, tmp_path: Path, number: signal.Signals) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    with cache_at(cache), child_scan(workshop.job("scan", out=str(out))) as child:
        told = events(child)
        waited_for = "progress" if number == signal.SIGTERM else "phase"
        next(event for event in told if event["event"] == waited_for and event.get("phase", "") != "checking files")
        wait_until(lambda: bool(psutil.Process(child.pid).children()))
        hosts = [process.pid for process in psutil.Process(child.pid).children(recursive=True)]
        started = time.monotonic()
        child.send_signal(number)
        last = list(told)[-1]
        assert child.wait(SOON_S) == 3
        assert time.monotonic() - started < SOON_S
    assert (last["event"], last["code"], last["exit"]) == ("error", ScanCancelled.code, 3)
    assert hosts
    wait_until(lambda: all(gone(pid) for pid in hosts))
    assert not out.exists()
    with SqliteStore(cache / "observations.sqlite", 2**28) as store:
        assert store.size_bytes() > 0
