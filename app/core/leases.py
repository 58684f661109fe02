"""Leases: who works on which piece, by the database's clock.

A message is only a doorbell. What counts is one conditional UPDATE each: to claim, to renew, to commit. Every claim
grows the chunk's `lease_version`, and a commit names the version it was claimed with, so a worker that was away for
longer than its lease changes nothing when it comes back (fencing; Gray and Cheriton, 1989, for leases).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from app.core.database import Database, clock
from app.core.tables import ENDED, Chunk, ChunkKind, Scan
from detectors.errors import MachineError

ATTEMPTS = 3
"""Claims of a chunk that may end without a commit; then it has failed."""
LOST = "every worker that had it was lost"


@dataclass(frozen=True)
class Lease:
    """A claim on a chunk."""

    chunk_id: str
    scan_id: str
    kind: ChunkKind
    version: int


def claim(database: Database, chunk_id: str, worker: str, lease_s: float) -> Lease | None:
    """Claims a chunk that is queued, or whose worker is gone; None if it is neither."""
    with database.writing() as session:
        return _claim(session, Chunk.id == chunk_id, worker, lease_s)


def claim_next(database: Database, scan_id: str, worker: str, lease_s: float) -> Lease | None:
    """Claims the oldest piece of a scan's observations that nobody works on; None if there is none."""
    free = select(Chunk.id).where(Chunk.scan_id == scan_id, Chunk.kind == "observe", Chunk.state == "queued")
    with database.writing() as session:
        # skipping what others are claiming right now; SQLite has no such clause, and one writer at a time
        oldest = session.scalar(free.order_by(Chunk.created, Chunk.id).limit(1).with_for_update(skip_locked=True))
        return _claim(session, Chunk.id == oldest, worker, lease_s) if oldest else None


def _claim(session: Session, which: ColumnElement[bool], worker: str, lease_s: float) -> Lease | None:
    free = or_(Chunk.state == "queued", and_(Chunk.state == "running", Chunk.lease_until < clock()))
    row = session.execute(
        update(Chunk)
        .where(which, free, Chunk.attempts < ATTEMPTS)
        .values(
            state="running",
            worker=worker,
            attempts=Chunk.attempts + 1,
            lease_version=Chunk.lease_version + 1,
            lease_until=clock() + lease_s,
        )
        .returning(Chunk.id, Chunk.scan_id, Chunk.kind, Chunk.lease_version)
    ).one_or_none()
    return Lease(*row) if row else None


def renew(session: Session, lease: Lease, lease_s: float) -> bool:
    """Whether the lease is still ours; if so it lasts `lease_s` from now."""
    return _change(session, lease, lease_until=clock() + lease_s)


def commit(session: Session, lease: Lease) -> bool:
    """Whether the lease is still ours; if so the chunk is done. To be called in the transaction of what it did."""
    return _change(session, lease, state="done")


def advance(session: Session, lease: Lease) -> bool:
    """Whether the lease is still ours; if so it got a step forward, and the attempts before it are forgotten."""
    return _change(session, lease, attempts=1)


def give_back(session: Session, lease: Lease) -> bool:
    """Queues the chunk again, as if it had not been claimed: the worker is being stopped."""
    return _change(session, lease, state="queued", attempts=Chunk.attempts - 1)


def retry(session: Session, lease: Lease, error: str) -> bool:
    """Queues the chunk again after a fault of the machine, or lets it fail after the last attempt."""
    held = _change(session, lease, state="queued", published=0.0, error=error)
    _fail_exhausted(session)
    return held


def fail(session: Session, lease: Lease, error: str) -> bool:
    """The chunk cannot be done."""
    return _change(session, lease, state="failed", error=error)


def _change(session: Session, lease: Lease, **values: object) -> bool:
    mine = and_(Chunk.id == lease.chunk_id, Chunk.lease_version == lease.version, Chunk.state == "running")
    found = session.execute(update(Chunk).where(mine).values(**values).returning(Chunk.id))
    return found.one_or_none() is not None


def reap(database: Database) -> None:
    """Queues again what lost its worker, or lets it fail after the last attempt."""
    with database.writing() as session:
        lost = and_(Chunk.state == "running", Chunk.lease_until < clock())
        session.execute(update(Chunk).where(lost).values(state="queued", published=0.0, worker=None))
        _fail_exhausted(session)


def _fail_exhausted(session: Session) -> None:
    exhausted = and_(Chunk.state == "queued", Chunk.attempts >= ATTEMPTS)
    session.execute(update(Chunk).where(exhausted).values(state="failed", error=func.coalesce(Chunk.error, LOST)))
    undriven = select(Chunk.scan_id).where(Chunk.kind == "drive", Chunk.state == "failed")
    session.execute(
        update(Scan)
        .where(Scan.id.in_(undriven), Scan.state.not_in(ENDED))
        .values(
            state="failed",
            version=Scan.version + 1,
            ended=clock(),
            error_code=MachineError.code,
            error_message=select(f"the scan was given up after {ATTEMPTS} attempts: " + Chunk.error)
            .where(Chunk.scan_id == Scan.id, Chunk.kind == "drive")
            .scalar_subquery(),
        )
    )
