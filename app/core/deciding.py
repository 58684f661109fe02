"""Decisions on kept reports: which policy, which suppressions, and what changes when either does. Never a rescan."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core import policies
from app.core.database import clock
from app.core.render.visible import visible
from app.core.stores.blobs import Blobs
from app.core.tables import PolicyRow, Scan
from app.core.tables import Suppression as SuppressionRow
from detectors.errors import PolicyError
from detectors.report import Decision, Policy, Report, Suppression, decide_report


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
    """All that are not revoked; whether they have expired is for `decide` to see."""
    rows = session.scalars(
        select(SuppressionRow).where(SuppressionRow.revoked.is_(None)).order_by(SuppressionRow.created)
    )
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


def decision_on(session: Session, report: Report, policy: Policy) -> Decision:
    """The decision on a report today."""
    return decide_report(report, policy, suppressions(session), now(session))


def read_report(blobs: Blobs, digest: str) -> Report:
    """A kept report."""
    return Report.model_validate_json(blobs.get(digest))


def redecide(session: Session, blobs: Blobs, policy: str | None = None) -> int:
    """Decides again on every scan with a report, of one policy or of all; how many verdicts changed."""
    scans = select(Scan.id, Scan.report_digest, Scan.policy, Scan.verdict).where(Scan.report_digest.is_not(None))
    if policy is not None:
        scans = scans.where(Scan.policy == policy)
    changed = 0
    for scan_id, digest, name, before in session.execute(scans).all():
        verdict = decision_on(session, read_report(blobs, str(digest)), policy_named(session, name)).verdict
        if verdict != before:
            session.execute(update(Scan).where(Scan.id == scan_id).values(verdict=verdict, version=Scan.version + 1))
            changed += 1
    return changed
