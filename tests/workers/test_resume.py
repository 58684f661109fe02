"""A scan that was killed pays only for what was not stored yet."""

from __future__ import annotations

import random
import signal
import sqlite3
from pathlib import Path

import psutil

from app.core.scanning import run_job
from tests.workers.conftest import Workshop, cache_at, child_scan, events, gone, read_report, wait_until

STORE = "observations.sqlite"


def rows(cache: Path, where: str = "1") -> set[bytes]:
    connection = sqlite3.connect(cache / STORE)
    try:
        return {key for (key,) in connection.execute(f"SELECT key FROM observation WHERE {where}")}  # noqa: S608
    finally:
        connection.close()


def mark(cache: Path) -> None:
    """Gives every stored observation a time of its own, a minute back."""
    connection = sqlite3.connect(cache / STORE, isolation_level=None)
    connection.execute("UPDATE observation SET used = used - 60")
    connection.execute("CREATE TABLE IF NOT EXISTS marked AS SELECT key, used FROM observation")
    connection.close()


def test_a_killed_scan_goes_on_where_it_was(workshop: Workshop, tmp_path: Path) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    moment = random.randint(2, 9)
    with cache_at(cache):
        with child_scan(workshop.job("scan", out=str(out))) as child:
            told = (event for event in events(child) if event["event"] == "progress" and event["done"])
            for _ in range(moment):
                next(told)
            hosts = [process.pid for process in psutil.Process(child.pid).children(recursive=True)]
            child.send_signal(signal.SIGKILL)
            child.wait()
        wait_until(lambda: all(gone(pid) for pid in hosts))
        assert hosts
        assert not out.exists()
        paid, whole = rows(cache), rows(workshop.cache)
        assert paid, f"killed at event {moment}"
        assert paid < whole, f"killed at event {moment}"
        mark(cache)
        run_job(workshop.job("scan", out=str(out)))
    untouched = rows(
        cache, "EXISTS (SELECT * FROM marked WHERE marked.key = observation.key AND marked.used = observation.used)"
    )
    assert paid == untouched, f"killed at event {moment}"
    report, full = read_report(out), read_report(workshop.out)
    assert report.scan_id == full.scan_id
    assert report.outcomes() == full.outcomes()
    assert report.coverage == full.coverage
    before, after = (sum(result.usage.forward_tokens for result in it.results) for it in (full, report))
    assert 0 < after < before
    asked = [[result.usage.observations for result in it.results] for it in (full, report)]
    assert asked[0] == asked[1]
