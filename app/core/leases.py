"""Leases: who works on which piece, by the database's clock.

A message is only a doorbell. What counts is one conditional UPDATE each: to claim, to renew, to commit. Every claim
grows the chunk's `lease_version`, and a commit names the version it was claimed with, so a worker that was away for
longer than its lease changes nothing when it comes back (fencing; Gray and Cheriton, 1989, for leases).

A chunk that was claimed `ATTEMPTS` times without a step forward has failed. A step forward of a scan is an observation
that was not stored before, so a scan that kills its worker at the same place again and again is given up, and one that
outlives any number of restarts is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from app.core.database import Database, clock
from app.core.tables import Chunk, ChunkKind

ATTEMPTS = 3
"""Claims of a chunk that may end without a commit or a step forward; then it has failed."""
LOST = "every worker that had it was lost"

_EXPIRED = and_(Chunk.state == "running", Chunk.lease_until < clock())
_FREE = and_(or_(Chunk.state == "queued", _EXPIRED), Chunk.attempts < ATTEMPTS)


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
        return _claim(session, chunk_id, worker, lease_s)


def claim_next(database: Database, scan_id: str, worker: str, lease_s: float) -> Lease | None:
    """Claims the oldest piece of a scan's observations that nobody works on; None if there is none."""
    free = select(Chunk.id).where(Chunk.scan_id == scan_id, Chunk.kind == "observe", _FREE)
    with database.writing() as session:
        # skipping what others are claiming right now; SQLite has no such clause, and one writer at a time
        oldest = session.scalar(free.order_by(Chunk.created, Chunk.id).limit(1).with_for_update(skip_locked=True))
        return _claim(session, oldest, worker, lease_s) if oldest else None


def _claim(session: Session, chunk_id: str, worker: str, lease_s: float) -> Lease | None:
    row = session.execute(
        update(Chunk)
        .where(Chunk.id == chunk_id, _FREE)
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
    if lease.kind == "observe":
        drive = and_(Chunk.scan_id == lease.scan_id, Chunk.kind == "drive", Chunk.state == "running")
        session.execute(update(Chunk).where(drive, select(Chunk.id).where(_mine(lease)).exists()).values(attempts=1))
    return _change(session, lease, state="done", body=None)


def holds(session: Session, lease: Lease) -> bool:
    """Whether the lease is still ours, and will be until the transaction ends."""
    return session.scalar(select(Chunk.id).where(_mine(lease)).with_for_update()) is not None


def advance(session: Session, lease: Lease) -> bool:
    """Whether the lease is still ours; if so it got a step forward, and the attempts before it are forgotten."""
    return _change(session, lease, attempts=1)


def give_back(session: Session, lease: Lease) -> bool:
    """Queues the chunk again, as if it had not been claimed: the worker is being stopped."""
    return _change(session, lease, state="queued", published=0.0, attempts=Chunk.attempts - 1)


def retry(session: Session, lease: Lease, error: str) -> bool:
    """Queues the chunk again after a fault of the machine, or lets it fail after the last attempt."""
    return _change(session, lease, **_again(error))


def fail(session: Session, lease: Lease, error: str) -> bool:
    """The chunk cannot be done."""
    return _change(session, lease, state="failed", error=error, body=None)


def reap(session: Session) -> None:
    """Queues again what lost its worker, or lets it fail after the last attempt."""
    lost = select(Chunk.id).where(_EXPIRED).with_for_update(skip_locked=True)
    session.execute(update(Chunk).where(Chunk.id.in_(lost)).values(**_again(func.coalesce(Chunk.error, LOST))))


def _again(error: Any) -> dict[str, Any]:
    state = case((Chunk.attempts >= ATTEMPTS, "failed"), else_="queued")
    return {"state": state, "published": 0.0, "error": error}


def _mine(lease: Lease) -> ColumnElement[bool]:
    return and_(Chunk.id == lease.chunk_id, Chunk.lease_version == lease.version, Chunk.state == "running")


def _change(session: Session, lease: Lease, **values: Any) -> bool:
    found = session.execute(update(Chunk).where(_mine(lease)).values(**values).returning(Chunk.id))
    return found.one_or_none() is not None
