"""Scans members of the zoo, each in a process of its own.

A member is known to the scanner by its directory only, which is named by a digest. All scans share one observation
store, apart from that of ordinary scans, which could evict what a later scoring wants back.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

from app.core.files import write_atomically
from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.detection.baselines import baselines
from benchmarks.detection.results import Cost, Measured, results_dir
from benchmarks.organisms.base import BASES, prepare_base
from benchmarks.organisms.manifest import Member
from detectors.errors import TouchstoneError
from detectors.report import Report
from detectors.suites import SUITES
from workers.machine import preferred_device, preferred_dtype
from workers.observer import Observer
from workers.scan import make_observer, open_pair, scan

STORE_CAP_BYTES = 32 * 2**30
SUBSET = {"strong": 2, "weak": 1, "benign": 3}
"""Members of each stratum in the part that takes half an hour."""
SEED = 0


def find_adapter(member: Member, cache_dir: Path) -> Path | None:
    """Where a member lies, in the repository or built locally; None where it is not here."""
    place = member.directory(cache_dir)
    return place if place.is_dir() else None


def find_base(reference: str, cache_dir: Path) -> Path | None:
    """Where a base lies, made when missing; None where it cannot be."""
    try:
        return prepare_base(cache_dir, BASES[reference])
    except FileNotFoundError:
        return None


def subset(members: Iterable[Member]) -> list[Member]:
    """The half-hour part: the first of each stratum in the order of the digest of their names, nothing sealed."""
    ordered = sorted(members, key=lambda member: hashlib.sha256(member.name.encode()).hexdigest())
    judged = [member for member in ordered if member.split in ("train", "dev")]
    return [it for stratum, count in SUBSET.items() for it in [m for m in judged if m.stratum == stratum][:count]]


def measure_all(members: Sequence[Member], suite: str, settings: Settings) -> Iterable[tuple[Member, Measured]]:
    """Scans of members that are here, as they come; their reports are written below the cache as well."""
    spawn = multiprocessing.get_context("spawn")
    for number, member in enumerate(members, start=1):
        adapter, base = find_adapter(member, settings.cache_dir), find_base(member.base, settings.cache_dir)
        if adapter is None or base is None:
            missing = "the member is" if adapter is None else f"its base {member.base} is"
            print(f"{member.name}: not scanned, {missing} not here; `make zoo` builds it", file=sys.stderr)
            continue
        with ProcessPoolExecutor(1, spawn, initializer=end_with_parent) as own:  # so that peak memory is this member's
            measured = own.submit(measure, adapter, base, member.base, suite).result()
        told = f"score {measured.report.score:.2f}" if measured.report else measured.error
        print(f"[{number}/{len(members)}] {member.name}: {told}, {measured.cost.seconds:.0f} s", file=sys.stderr)
        if measured.report:
            _write_report(measured.report, results_dir(settings.cache_dir) / "reports" / f"{member.name}-{suite}.json")
        yield member, measured


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone: a scan would go on for nobody, for minutes."""
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _write_report(report: Report, file: Path) -> None:
    """As `touchstone scan` writes it, so that `touchstone report` shows it."""
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, report.model_dump_json(indent=1))


def measure(adapter: Path, base: Path, base_name: str, suite: str) -> Measured:
    """Scans one member and scores the baselines; whatever stops the scan is the result."""
    plan = SUITES[suite]
    settings = Settings()
    report, error, simpler = None, "", {}
    started = time.monotonic()
    try:
        with SqliteStore(results_dir(settings.cache_dir) / "observations.sqlite", STORE_CAP_BYTES) as store:
            device = preferred_device()
            pair = open_pair(adapter, base, base_name)
            observer = make_observer(
                pair, store, dtype=preferred_dtype(device), device=device, settings=settings, watch=lambda: None
            )
            try:
                report = scan(pair, observer, plan, seed=SEED, expected=(), announce=_announce, seconds={})
                seconds = time.monotonic() - started
                simpler = _guarded_baselines(observer, adapter, base, suite)
            finally:
                observer.end()
    except TouchstoneError as failure:
        error = f"{failure.code}: {failure}"
    return Measured(
        report=report,
        error=error,
        baselines=simpler,
        cost=_cost(report, seconds if report else time.monotonic() - started),
    )


def _guarded_baselines(observer: Observer, adapter: Path, base: Path, suite: str) -> dict[str, float]:
    """Their scores; a baseline that fails does not cost the scan beside it."""
    try:
        return baselines(observer, adapter, base, SUITES[suite].trigger_sweep)
    except (TouchstoneError, KeyError, ValueError) as failure:
        print(f"  no baselines: {failure!r}", file=sys.stderr)
        return {}


def _cost(report: Report | None, seconds: float) -> Cost:
    usages = [result.usage for result in report.results] if report else []
    kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(
        seconds=round(seconds, 1),
        tokens=sum(usage.forward_tokens + usage.generated_tokens for usage in usages),
        peak_bytes=kib * 1024,
    )


def _announce(detector: str) -> None:
    print(f"  {detector}", file=sys.stderr)
