"""The measures. Each takes a running service, and gives the lines to print; none judges how fast anything was.

Clients run on the machine that they measure, and take their share of it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count

import httpx
from sqlalchemy import func, insert, select

from app.core.database import clock
from app.core.scans import new_id
from app.core.tables import ENDED, Chunk, Scan
from benchmarks.service.serving import Service

POLL_S = 0.005
"""Seconds between two looks at the database for the first chunk."""
LOOK_S = 0.5
PATIENCE_S, PATIENCE_A_SCAN_S = 120.0, 30.0
"""A queue that is not empty after so long has lost what is left in it."""
READERS = 8
STREAMS = 200
BATCH = 5_000
CALLS = 50

SUBJECTS = count()


def first_chunk(service: Service, times: int) -> Iterator[str]:
    """From the POST to the moment a worker has claimed the first piece of the scan, on an idle service."""
    waits = []
    with service.client() as client:
        for _ in range(times):
            began = time.perf_counter()
            scan = service.submit(client, next(SUBJECTS))
            _await_claim(service, scan, POLL_S)
            waits.append(time.perf_counter() - began)
            _await_end(service, [scan])
    spread = f"median {1e3 * statistics.median(waits):.0f} ms, longest {1e3 * max(waits):.0f} ms"
    yield f"from POST to first chunk started: {spread}, of {times} on an idle service; the first warms the worker up"


def reads(service: Service, scans: int, seconds: float) -> Iterator[str]:
    """Reads of a scan's status by several clients at once, while scans run."""
    with service.client() as client:
        running = [service.submit(client, next(SUBJECTS)) for _ in range(scans)]
    _await_claim(service, running[0], LOOK_S)
    times: list[float] = []
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=_read, args=(service, running[0], until, times)) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = len(_open(service, running))
    yield (
        f"status reads: {len(times) / seconds:.0f} a second, {_spread(times)}; {READERS} client threads, "
        f"{seconds:.0f} s, {scans} scans queued or running at the beginning and {left} at the end"
    )
    _await_end(service, running)


def _read(service: Service, scan: str, until: float, times: list[float]) -> None:
    with service.client() as client:
        while time.monotonic() < until:
            times.append(_get(client, f"/v1/scans/{scan}"))


def streams(service: Service) -> Iterator[str]:
    """Clients that all follow one scan's events, from its beginning to its end."""
    with service.client() as client:
        scan = service.submit(client, next(SUBJECTS))
    began = time.perf_counter()
    finals = sum(asyncio.run(_follow_all(service, scan)))
    seconds = time.perf_counter() - began
    _await_end(service, [scan])
    yield f"event streams: {finals} of {STREAMS} clients at once got the final event of one scan, in {seconds:.1f} s"


async def _follow_all(service: Service, scan: str) -> list[bool]:
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(
        base_url=service.url, headers=service.headers, timeout=60, limits=limits, trust_env=False
    ) as client:
        return await asyncio.gather(*(_follow(client, scan) for _ in range(STREAMS)))


async def _follow(client: httpx.AsyncClient, scan: str) -> bool:
    """Whether the stream's last word was that the scan has ended."""
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(PATIENCE_S), client.stream("GET", f"/v1/scans/{scan}/events") as response:
            async for line in response.aiter_lines():
                if line.startswith("data:") and json.loads(line.removeprefix("data:"))["state"] in ENDED:
                    return True
    return False


def drain(service: Service, scans: int) -> Iterator[str]:
    """A queue of scans, from the first POST until nothing of it is left."""
    before = _memory(service)
    began = time.perf_counter()
    with service.client() as client:
        queued = [service.submit(client, next(SUBJECTS)) for _ in range(scans)]
    accepted = time.perf_counter() - began
    _await_end(service, queued)
    seconds = time.perf_counter() - began
    after = _memory(service)
    gone = lost(service, queued)
    yield f"queue of {scans} `smoke` scans: accepted in {accepted:.1f} s, drained in {seconds:.0f} s, {gone} lost"
    yield f"`smoke` scans an hour: {3600 * (scans - gone) / seconds:.0f}, by that queue"
    for name, mib in before.items():
        each = 1024 * (after[name] - mib) / scans
        yield f"resident memory of {name} before and after: {mib:.0f} and {after[name]:.0f} MiB, {each:.0f} KiB a scan"


def lost(service: Service, scans: Sequence[str]) -> int:
    """How many of them have not succeeded, or are not there."""
    return len(scans) - len(_in_states(service, scans, ["succeeded"]))


def growth(service: Service, rows: Sequence[int]) -> Iterator[str]:
    """Latency of a list's first page and of one scan, as the table grows by rows that are written directly."""
    for wanted in rows:
        scan = _fill(service, wanted)
        with service.client() as client:
            for path in ("/v1/scans", "/v1/scans?state=canceled&limit=50", f"/v1/scans/{scan}"):
                times = [_get(client, path) for _ in range(CALLS)]
                yield f"{wanted:>7} rows, GET {path.replace(scan, 'ID')}: {_spread(times)}; {CALLS} calls by one client"


def _fill(service: Service, wanted: int) -> str:
    """Adds ended scans until there are that many, where there are fewer; the id of one of them."""
    with service.database.reading() as session:
        missing = wanted - (session.scalar(select(func.count()).select_from(Scan)) or 0)
        now = session.scalar(select(clock())) or 0.0
    for first in range(0, missing, BATCH):
        rows = {new_id(): now - at for at in range(first, min(first + BATCH, missing))}
        with service.database.writing() as session:
            session.execute(insert(Scan), [_row(service.key_id, *row) for row in rows.items()])
    with service.database.reading() as session:
        return session.scalars(select(Scan.id).limit(1)).one()


def _row(key_id: str, scan: str, created: float) -> dict[str, object]:
    plain = {"queue": "people", "model": "subject", "suite": "smoke", "suite_digest": "0" * 64, "policy": "default"}
    empty: dict[str, object] = {"labels": [], "expected": [], "seed": 0, "scanner_version": "0"}
    return plain | empty | {"id": scan, "created": created, "key_id": key_id, "state": "canceled", "ended": created}


def _claimed(service: Service, scan: str) -> bool:
    with service.database.reading() as session:
        return bool(session.scalar(select(func.max(Chunk.lease_version)).where(Chunk.scan_id == scan)))


def _open(service: Service, scans: Sequence[str]) -> set[str]:
    """Those that have not ended, or are not there."""
    return set(scans) - _in_states(service, scans, ENDED)


def _in_states(service: Service, scans: Sequence[str], states: Sequence[str]) -> set[str]:
    with service.database.reading() as session:
        return set(session.scalars(select(Scan.id).where(Scan.id.in_(scans), Scan.state.in_(states))))


def _memory(service: Service) -> dict[str, float]:
    return {"API": service.resident_mib("uvicorn"), "workers": service.resident_mib("celery")}


def _await_claim(service: Service, scan: str, pause_s: float) -> None:
    _until(lambda: _claimed(service, scan), pause_s, PATIENCE_S)


def _await_end(service: Service, scans: Sequence[str]) -> None:
    _until(lambda: not _open(service, scans), LOOK_S, PATIENCE_S + PATIENCE_A_SCAN_S * len(scans))


def _until(holds: Callable[[], bool], pause_s: float, longest_s: float) -> None:
    """Waits for it, but not for ever."""
    until = time.monotonic() + longest_s
    while not holds() and time.monotonic() < until:
        time.sleep(pause_s)


def _get(client: httpx.Client, path: str) -> float:
    """Seconds that an answer took."""
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return time.perf_counter() - began


def _spread(times: Sequence[float]) -> str:
    """Median and 95th percentile."""
    cuts = statistics.quantiles(times, n=20)
    return f"p50 {1e3 * cuts[9]:.1f} ms, p95 {1e3 * cuts[18]:.1f} ms"
