"""Decisions on kept reports: which policy, which suppressions, what time it is. Never a rescan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Function, func, select
from sqlalchemy.orm import Session

from app.core import policies
from app.core.database import clock
from app.core.render.visible import visible
from app.core.stores.blobs import Blobs
from app.core.tables import PolicyRow
from app.core.tables import Suppression as SuppressionRow
from detectors.errors import PolicyError
from detectors.findings import CODES
from detectors.report import Decision, Policy, Report, Suppression, decide_report

RULES = 0x72756C65
"""PostgreSQL's advisory lock of policies and suppressions; any number that nothing else locks."""


def policy_named(session: Session, name: str) -> Policy:
    """A policy of this service, or a built-in one.

    Raises:
        PolicyError: if there is none of that name.
    """
    row = session.get(PolicyRow, name)
    if row is not None:
        return policies.parse_policy(row.text)
    if name not in policies.BUILTIN:
        raise PolicyError(
            f"there is no policy `{visible(name, 100)}`; name {' or '.join(policies.BUILTIN)}, or one that was put "
            "into this service (GET /v1/policies lists them)"
        )
    return policies.builtin_policy(name)


def suppressions(session: Session) -> tuple[Suppression, ...]:
    """All in force. One of a finding that this version does not know covers nothing, and is left out."""
    in_force = (
        SuppressionRow.revoked.is_(None),
        SuppressionRow.expires > clock(),
        SuppressionRow.finding_code.in_(CODES),
    )
    rows = session.scalars(select(SuppressionRow).where(*in_force).order_by(SuppressionRow.created))
    return tuple(
        Suppression(
            code=row.finding_code,
            trigger=row.trigger,
            subject_digest=row.subject_digest,
            reason=row.reason,
            owner=row.owner,
            created=moment(row.created),
            expires=moment(row.expires),
        )
        for row in rows
    )


def moment(seconds: float) -> datetime:
    """A time of the database, with its zone."""
    return datetime.fromtimestamp(seconds, UTC)


def now(session: Session) -> datetime:
    """The database's time."""
    return moment(session.scalar(select(clock())) or 0.0)


def rules_change(session: Session) -> None:
    """Waits for whoever writes verdicts (`verdict_to_write`), and lets nobody begin until this transaction ends."""
    _lock(session, func.pg_advisory_xact_lock)


def verdict_to_write(session: Session, report: Report, policy: str) -> str:
    """The verdict by the rules of today, which stay until this transaction ends: it is to write the verdict.

    A rule that changed between a decision and its commit would not find the scan.
    """
    _lock(session, func.pg_advisory_xact_lock_shared)
    return decision_on(session, report, policy_named(session, policy)).verdict


def _lock(session: Session, lock: Callable[[int], Function[None]]) -> None:
    """On SQLite a transaction that writes is alone."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(lock(RULES)))


def decision_on(session: Session, report: Report, policy: Policy) -> Decision:
    """The decision on a report today."""
    return decide_report(report, policy, suppressions(session), now(session))


def read_report(blobs: Blobs, digest: str) -> Report:
    """A kept report."""
    return Report.model_validate_json(blobs.get(digest))
