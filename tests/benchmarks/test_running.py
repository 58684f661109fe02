"""Scans of the benchmark: a process of its own for each, and none that outlives whoever wants it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from benchmarks.detection.running import end_with_parent

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=end_with_parent) as own:
        print(own.submit(os.getpid).result(), flush=True)
        own.submit(time.sleep, 120).result()
"""
PATIENCE = 30.0
"""Seconds."""


def test_a_scan_ends_when_the_benchmark_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as parent:
        assert parent.stdout
        child = Path("/proc", parent.stdout.readline().strip())
        assert child.exists()
        parent.send_signal(signal.SIGKILL)
    waited = time.monotonic() + PATIENCE
    while child.exists() and time.monotonic() < waited:
        time.sleep(0.1)
    assert not child.exists()
