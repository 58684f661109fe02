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

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.core.database import clock, insert_new
from app.core.leases import ATTEMPTS, Lease, commit, holds
from app.core.tables import ENDED, Audit, Chunk, ChunkState, Idempotency, Label, Queue, ReportRow, Scan, State
from detectors.errors import Conflict, LeaseLost, MachineError
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
    scan_id, now = new_id(), session.scalar(select(clock()))
    if token is not None and not _reserve(session, wish, key_id, token, scan_id, now):
        return _earlier(session, wish, key_id, token), None
    scan = Scan(
        id=scan_id,
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
    chunk = Chunk(id=new_id(), scan_id=scan_id, kind="drive", key=DRIVE, queue=wish.queue, state="queued", created=now)
    session.add(scan)
    session.flush()
    session.add_all([chunk, *(Label(scan_id=scan_id, label=label) for label in dict.fromkeys(wish.labels))])
    audit(session, key_id, "scan.submit", scan_id, {"model": wish.model, "suite": wish.suite})
    return scan, chunk


def _reserve(session: Session, wish: Wish, key_id: str, token: str, scan_id: str, now: float | None) -> bool:
    """Whether the token was still free; who asks at the same moment waits here, and then finds the other's scan."""
    row = {"key_id": key_id, "token": token, "body_digest": wish.digest(), "scan_id": scan_id, "created": now}
    return insert_new(session, Idempotency, [row]) == 1


def _earlier(session: Session, wish: Wish, key_id: str, token: str) -> Scan:
    used = session.get_one(Idempotency, (key_id, token))
    if used.body_digest != wish.digest():
        raise Conflict(
            f"the Idempotency-Key {token[:80]!r} was used for another request; send the same body, or another key"
        )
    return session.get_one(Scan, used.scan_id)


def request_cancel(session: Session, scan_id: str, actor: str) -> None:
    """Asks for the end of a scan: at once where no worker has it, else its worker sees the flag. Idempotent."""
    asked = (Scan.id == scan_id, Scan.state.not_in(ENDED), Scan.cancel_requested.is_(False))
    session.execute(update(Scan).where(*asked).values(cancel_requested=True, version=Scan.version + 1))
    settle(session, scan_id)
    audit(session, actor, "scan.cancel", scan_id, {})


def settle(session: Session, scan_id: str | None = None) -> None:
    """Ends scans that no worker will end: those given up, and those cancelled while they waited.

    Args:
        scan_id: of the one to look at; None looks at all that are open.
    """
    stuck = or_(Chunk.state == "failed", and_(Chunk.state == "queued", Scan.cancel_requested))
    found = select(Scan.id, Chunk.state, Chunk.error).join(Chunk, Chunk.scan_id == Scan.id)
    found = found.where(Scan.state.not_in(ENDED), Chunk.kind == "drive", stuck)
    for stuck_id, state, error in session.execute(found.where(Scan.id == scan_id) if scan_id else found).all():
        values: dict[str, Any] = {"state": "canceled"}
        if state == "failed":
            told = f"the scan was given up after {ATTEMPTS} attempts: {error}"
            values = {"state": "failed", "error_code": MachineError.code, "error_message": told}
        _finish(session, stuck_id, values)


def _finish(session: Session, scan_id: str, values: Mapping[str, Any]) -> None:
    still_open = (Scan.id == scan_id, Scan.state.not_in(ENDED))
    ended = {"ended": clock(), "eta_s": None, "version": Scan.version + 1}
    if session.execute(update(Scan).where(*still_open).values(**ended, **values).returning(Scan.id)).one_or_none():
        _drop_chunks(session, scan_id)


def _drop_chunks(session: Session, scan_id: str) -> None:
    """Lets nobody work on an ended scan any more."""
    left = (Chunk.scan_id == scan_id, Chunk.state.in_(("queued", "running")))
    session.execute(update(Chunk).where(*left).values(state="failed", error="the scan has ended", body=None))


def move(session: Session, lease: Lease, state: State, **values: Any) -> None:
    """Puts the scan that this lease drives into a state; a client sees the values.

    Raises:
        LeaseLost: if the scan has ended or somebody else drives it; the transaction is to be rolled back.
    """
    still_open = (Scan.id == lease.scan_id, Scan.state.not_in(ENDED))
    changed = {"state": state, "version": Scan.version + 1} | values
    found = session.execute(update(Scan).where(*still_open).values(**changed).returning(Scan.id)).one_or_none()
    if not (found and holds(session, lease)):
        raise LeaseLost("the scan has ended, or another worker drives it")


def end(session: Session, lease: Lease, state: State, **values: Any) -> None:
    """Ends the scan that this lease drives; nothing of it is left to do.

    Raises:
        LeaseLost: as `move` does.
    """
    move(session, lease, state, ended=clock(), eta_s=None, **values)
    commit(session, lease)
    _drop_chunks(session, lease.scan_id)


def same_scan(session: Session, scan: Scan) -> Scan | None:
    """The latest scan with a report on the same contents, by the same suite, seed, expectations, scanner and dtype."""
    found = session.scalars(
        select(Scan)
        .where(
            Scan.subject_content == scan.subject_content,
            Scan.base_content == scan.base_content,
            Scan.suite_digest == scan.suite_digest,
            Scan.seed == scan.seed,
            Scan.dtype == scan.dtype,
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
    row = {"digest": digest, "scan_id": scan_id, "created": session.scalar(select(clock())), "bytes": size}
    insert_new(session, ReportRow, [row])


def audit(session: Session, actor: str, action: str, target: str, detail: dict[str, Any]) -> None:
    """Notes who did what, in the transaction of what was done."""
    now = session.scalar(select(clock()))
    session.add(Audit(at=now, actor=actor, action=action, object=target, detail=detail))


def enqueue(session: Session, lease: Lease, role: str, bodies: Mapping[str, bytes]) -> list[tuple[str, Queue]]:
    """Chunks of observations by key, where there are none yet; (id, queue) of the new ones.

    Raises:
        LeaseLost: if the lease no longer drives the scan.
    """
    if not holds(session, lease):
        raise LeaseLost("the scan has ended, or another worker drives it")
    scan, now = session.get_one(Scan, lease.scan_id), session.scalar(select(clock()))
    known = chunk_states(session, lease.scan_id, list(bodies))
    fresh = [
        Chunk(
            id=new_id(),
            scan_id=scan.id,
            kind="observe",
            key=key,
            role=role,
            body=body,
            queue=scan.queue,
            state="queued",
            created=now,
        )
        for key, body in bodies.items()
        if key not in known
    ]
    session.add_all(fresh)
    return [(chunk.id, chunk.queue) for chunk in fresh]


def chunk_states(session: Session, scan_id: str, keys: Sequence[str]) -> dict[str, tuple[ChunkState, str]]:
    """State and error of those chunks of a scan that exist, by their keys."""
    found = select(Chunk.key, Chunk.state, Chunk.error).where(
        Chunk.scan_id == scan_id, Chunk.kind == "observe", Chunk.key.in_(keys)
    )
    return {key: (state, error or "") for key, state, error in session.execute(found)}


def count_open(session: Session, scan_id: str) -> int:
    """How many pieces of a scan's observations are neither done nor failed."""
    of_scan = (Chunk.scan_id == scan_id, Chunk.kind == "observe", Chunk.state.in_(("queued", "running")))
    return session.scalar(select(func.count()).where(*of_scan)) or 0


def fail_queued(session: Session, scan_id: str, keys: Sequence[str], error: str) -> None:
    """Lets nobody begin these chunks any more: another of the same plan failed."""
    waiting = (Chunk.scan_id == scan_id, Chunk.kind == "observe", Chunk.key.in_(keys), Chunk.state == "queued")
    session.execute(update(Chunk).where(*waiting).values(state="failed", error=error, body=None))
