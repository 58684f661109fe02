"""Verdicts drawn again: when a policy changes, and when a suppression comes, goes or ends. Never a rescan.

Whoever changes a rule notes it in the same transaction (`note`), so that no crash forgets it; a suppression's end is
noted when the suppression is made, and comes due by itself. The work is one pass over the scans by id, in pages:
reports are read and decided on outside of any lock, then one short transaction writes what changed. The request that
made the change goes ahead with it for a few seconds (`redecide`) and the ticker finishes it, so ten thousand scans hold
nobody up.

What comes due while a pass is under way is joined with it to a new pass from the beginning. A page is written only
where its pass is still the one under way, so a verdict by old rules never replaces one by new rules, however many
processes work on it. The gate does not wait for any of this: it decides whenever it is asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.database import Database, clock
from app.core.deciding import decision_on, policy_named, read_report, rules_change
from app.core.scans import new_id
from app.core.stores.blobs import Blobs
from app.core.tables import Redecision, Scan
from detectors.errors import PolicyError, StoreError

log = logging.getLogger("touchstone.redeciding")

PAGE = 50
"""Scans decided on between two looks at the clock."""
AT_ONCE_S = 2.0
"""How long a request works on what it changed before it leaves the rest to the ticker."""
A_TICK_S = 5.0
"""How long one tick works on it."""


@dataclass(frozen=True)
class Redecided:
    """What came of it.

    Attributes:
        scans: how many were decided on again.
        changed: how many of them got another verdict.
        pending: whether the ticker has some left to do.
    """

    scans: int = 0
    changed: int = 0
    pending: bool = False


class _Pass(NamedTuple):
    id: str
    policy: str | None
    after: str


class _Kept(NamedTuple):
    id: str
    digest: str
    policy: str
    verdict: str | None


def note(session: Session, policy: str | None = None, due: float | None = None) -> None:
    """Lets verdicts be drawn again. To be called in the transaction of what changes.

    Args:
        policy: only of scans under it; None is all.
        due: from when on, in seconds since 1970; None is now.
    """
    rules_change(session)
    when = session.scalar(select(clock())) if due is None else due
    session.add(Redecision(id=new_id(), policy=policy, due=when))


def redecide(database: Database, blobs: Blobs, seconds: float = AT_ONCE_S) -> Redecided:
    """Goes ahead with what is due, for about as long. Where no report can be read, all stays due.

    Raises:
        DatabaseUnavailable: if the database cannot be used.
    """
    until = time.monotonic() + seconds
    scans = changed = 0
    try:
        while begun := _begin(database):
            if scans and time.monotonic() >= until:
                return Redecided(scans, changed, pending=True)
            kept, verdicts = _decide(database, blobs, begun)
            if _write(database, begun, kept, verdicts):
                scans, changed = scans + len(kept), changed + len(verdicts)
    except StoreError:
        log.error("no report can be read; verdicts are drawn again once the store of reports is back")
        return Redecided(scans, changed, pending=True)
    return Redecided(scans, changed)


def _begin(database: Database) -> _Pass | None:
    """The pass under way; whatever came due since it began is joined with it, from the beginning."""
    due = Redecision.due <= clock()
    with database.reading() as session:
        if session.scalar(select(Redecision.id).where(due).limit(1)) is None:
            return None
    with database.writing() as session:
        rules_change(session)  # a suppression that ends by itself changes them as well
        found = session.scalars(select(Redecision).where(due).order_by(Redecision.id).with_for_update()).all()
        if not found:
            return None
        if len(found) > 1 or not found[0].begun:
            found = [_joined(session, found)]
        return _Pass(found[0].id, found[0].policy, found[0].after)


def _joined(session: Session, found: Iterable[Redecision]) -> Redecision:
    policies = {one.policy for one in found}
    for one in found:
        session.delete(one)
    joined = Redecision(
        id=new_id(),
        policy=policies.pop() if len(policies) == 1 else None,
        due=session.scalar(select(clock())),
        begun=True,
        after="",
    )
    session.add(joined)
    session.flush()
    return joined


def _decide(database: Database, blobs: Blobs, begun: _Pass) -> tuple[list[_Kept], dict[str, str]]:
    """The next page of scans with a report, and the verdicts that are other than before, by scan."""
    under = () if begun.policy is None else (Scan.policy == begun.policy,)
    columns = select(Scan.id, Scan.report_digest, Scan.policy, Scan.verdict)
    page = columns.where(Scan.report_digest.is_not(None), Scan.id > begun.after, *under).order_by(Scan.id).limit(PAGE)
    with database.reading() as session:
        kept = [_Kept(row.id, str(row.report_digest), row.policy, row.verdict) for row in session.execute(page)]
        return kept, _verdicts(session, blobs, kept)


def _verdicts(session: Session, blobs: Blobs, kept: list[_Kept]) -> dict[str, str]:
    """One that cannot be read keeps its verdict and hinders no other; if that is all of them, the store is down."""

    @cache
    def verdict(digest: str, policy: str) -> str:
        return decision_on(session, read_report(blobs, digest), policy_named(session, policy)).verdict

    verdicts: dict[str, str] = {}
    failed: list[StoreError] = []
    for one in kept:
        try:
            verdicts[one.id] = verdict(one.digest, one.policy)
        except StoreError as error:
            failed.append(error)
            log.error("scan %s is not decided on again: %s", one.id, error)
        except PolicyError as error:
            log.error("scan %s is not decided on again: %s", one.id, error)
    if failed and not verdicts:
        raise failed[0]
    return {one.id: verdicts[one.id] for one in kept if verdicts.get(one.id, one.verdict) != one.verdict}


def _write(database: Database, begun: _Pass, kept: list[_Kept], verdicts: dict[str, str]) -> bool:
    """Whether the pass was still the one under way; if so the page is written, and the pass gone after the last one."""
    with database.writing() as session:
        mine = (Redecision.id == begun.id, Redecision.after == begun.after)
        last = kept[-1].id if kept else begun.after
        step = session.execute(update(Redecision).where(*mine).values(after=last).returning(Redecision.id))
        if step.one_or_none() is None:
            return False
        for scan_id, verdict in verdicts.items():
            session.execute(update(Scan).where(Scan.id == scan_id).values(verdict=verdict, version=Scan.version + 1))
        if len(kept) < PAGE:
            session.delete(session.get_one(Redecision, begun.id))
        return True
