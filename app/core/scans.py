"""Scans: how they come to be, change and end. Rules only; HTTP is in `app.api`, the work in `workers`.

A scan's state is changed by one conditional UPDATE each, so it never flips back: what has ended stays ended.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core.database import clock
from app.core.leases import Lease, advance, commit
from app.core.tables import ENDED, Audit, Chunk, Idempotency, Label, Queue, ReportRow, Scan, State
from detectors.errors import Conflict
from detectors.suites import SUITES

DRIVE = "drive"
"""Key of the one chunk that drives a scan."""


@dataclass(frozen=True)
class Wish:
    """What a caller asks for.

    Attributes:
        base: reference of the base; None lets it be inferred.
        expected: conditional behaviours to expect, as plain data.
    """

    model: str
    base: str | None
    suite: str
    policy: str
    seed: int
    labels: tuple[str, ...]
    expected: tuple[dict[str, Any], ...]
    queue: Queue = "people"

    def digest(self) -> str:
        """SHA-256 of the wish, as hex."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()


def new_id() -> str:
    """A fresh id."""
    return uuid.uuid4().hex


def submit(session: Session, wish: Wish, key_id: str, token: str | None = None) -> tuple[Scan, Chunk | None]:
    """The scan that the wish makes, with the chunk to ring for; without one, it was there before under that token.

    Args:
        key_id: of the API key that asks.
        token: the caller's `Idempotency-Key`.

    Raises:
        Conflict: if the token was used for another wish.
    """
    if token is not None and (earlier := _earlier(session, wish, key_id, token)):
        return earlier, None
    now = session.scalar(select(clock()))
    scan = Scan(
        id=new_id(),
        created=now,
        key_id=key_id,
        queue=wish.queue,
        model=wish.model,
        base=wish.base,
        suite=wish.suite,
        suite_digest=SUITES[wish.suite].digest(),
        policy=wish.policy,
        labels=list(wish.labels),
        seed=wish.seed,
        expected=list(wish.expected),
        scanner_version=version("touchstone"),
        state="queued",
    )
    chunk = Chunk(id=new_id(), scan_id=scan.id, kind="drive", key=DRIVE, queue=wish.queue, state="queued", created=now)
    session.add(scan)
    session.flush()
    session.add_all([chunk, *(Label(scan_id=scan.id, label=label) for label in dict.fromkeys(wish.labels))])
    if token is not None:
        session.add(Idempotency(key_id=key_id, token=token, body_digest=wish.digest(), scan_id=scan.id, created=now))
    audit(session, key_id, "scan.submit", scan.id, {"model": wish.model, "suite": wish.suite})
    return scan, chunk


def _earlier(session: Session, wish: Wish, key_id: str, token: str) -> Scan | None:
    used = session.get(Idempotency, (key_id, token))
    if used is None:
        return None
    if used.body_digest != wish.digest():
        raise Conflict(
            f"the Idempotency-Key {token[:80]!r} was used for another request; send the same body, or another key"
        )
    return session.get(Scan, used.scan_id)


def request_cancel(session: Session, scan_id: str, actor: str) -> None:
    """Asks for the end of a scan: at once where no worker has it, else its worker sees the flag. Idempotent."""
    open_scan = (Scan.id == scan_id, Scan.state.not_in(ENDED))
    session.execute(update(Scan).where(*open_scan).values(cancel_requested=True, version=Scan.version + 1))
    unclaimed = select(Chunk.scan_id).where(Chunk.scan_id == scan_id, Chunk.kind == "drive", Chunk.state == "queued")
    ended = session.execute(
        update(Scan)
        .where(*open_scan, Scan.id.in_(unclaimed))
        .values(state="canceled", ended=clock())
        .returning(Scan.id)
    )
    if ended.one_or_none():
        drop_chunks(session, scan_id)
    audit(session, actor, "scan.cancel", scan_id, {})


def drop_chunks(session: Session, scan_id: str) -> None:
    """Lets nobody work on an ended scan any more."""
    left = (Chunk.scan_id == scan_id, Chunk.state.in_(("queued", "running")))
    session.execute(update(Chunk).where(*left).values(state="failed", error="the scan has ended", body=None))


def move(session: Session, lease: Lease, state: State, **values: Any) -> bool:
    """Whether the scan is still driven by this lease; if so it is in `state` now, and a client sees the values."""
    changed = {"state": state, "version": Scan.version + 1} | values
    found = update(Scan).where(Scan.id == lease.scan_id, Scan.state.not_in(ENDED)).values(**changed).returning(Scan.id)
    return advance(session, lease) and session.execute(found).one_or_none() is not None


def end(session: Session, lease: Lease, state: State, **values: Any) -> bool:
    """Whether the scan is still driven by this lease; if so it has ended, and nothing of it is left to do."""
    if not (move(session, lease, state, ended=clock(), eta_s=None, **values) and commit(session, lease)):
        return False
    drop_chunks(session, lease.scan_id)
    return True


def same_scan(session: Session, scan: Scan) -> Scan | None:
    """The latest scan with a report on the same contents, by the same suite, seed, expectations and scanner."""
    found = session.scalars(
        select(Scan)
        .where(
            Scan.subject_content == scan.subject_content,
            Scan.base_content == scan.base_content,
            Scan.suite_digest == scan.suite_digest,
            Scan.seed == scan.seed,
            Scan.scanner_version == scan.scanner_version,
            Scan.report_digest.is_not(None),
            Scan.state == "succeeded",
            Scan.id != scan.id,
        )
        .order_by(Scan.created.desc())
    )
    return next((it for it in found if it.expected == scan.expected), None)


def keep_report(session: Session, digest: str, scan_id: str, size: int) -> None:
    """Notes a report whose contents are in the blob store. The same report is kept once."""
    if session.get(ReportRow, digest) is None:
        session.add(ReportRow(digest=digest, scan_id=scan_id, created=session.scalar(select(clock())), bytes=size))
        session.flush()


def audit(session: Session, actor: str, action: str, target: str, detail: dict[str, Any]) -> None:
    """Notes who did what, in the transaction of what was done."""
    now = session.scalar(select(clock()))
    session.add(Audit(at=now, actor=actor, action=action, object=target, detail=detail))


def enqueue(session: Session, scan_id: str, role: str, bodies: Mapping[str, bytes]) -> list[tuple[str, Queue]]:
    """Chunks of observations by key, where there are none yet; (id, queue) of the new ones."""
    of_scan = select(Chunk.key).where(Chunk.scan_id == scan_id, Chunk.kind == "observe", Chunk.key.in_(bodies))
    known = set(session.scalars(of_scan))
    scan, now = session.get_one(Scan, scan_id), session.scalar(select(clock()))
    fresh = [
        Chunk(
            id=new_id(),
            scan_id=scan_id,
            kind="observe",
            key=key,
            role=role,
            body=body,
            queue=scan.queue,
            state="queued",
            published=now,
            created=now,
        )
        for key, body in bodies.items()
        if key not in known
    ]
    session.add_all(fresh)
    return [(chunk.id, chunk.queue) for chunk in fresh]


def open_chunks(session: Session, scan_id: str, keys: Sequence[str]) -> int:
    """How many of these chunks are neither done nor failed."""
    of_scan = (Chunk.scan_id == scan_id, Chunk.kind == "observe", Chunk.key.in_(keys))
    count = select(func.count()).where(*of_scan, Chunk.state.in_(("queued", "running")))
    return session.scalar(count) or 0


def chunk_errors(session: Session, scan_id: str, keys: Sequence[str]) -> dict[str, str]:
    """Why chunks of a scan failed, by their keys; those that did not fail are not in it."""
    failed = select(Chunk.key, Chunk.error).where(
        Chunk.scan_id == scan_id, Chunk.kind == "observe", Chunk.key.in_(keys), Chunk.state == "failed"
    )
    return {key: error or "" for key, error in session.execute(failed)}
