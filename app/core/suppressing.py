"""Suppressions of this service: somebody answers for a finding, for at most a year, and everybody can see who.

What one covers is in `detectors.report.Suppression`; here they are kept and ended early. One that comes, goes or ends
changes verdicts at once (`app.core.redeciding`). Rows stay for the record.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.core.database import clock
from app.core.deciding import now
from app.core.gating import CLOCK_SKEW
from app.core.redeciding import note
from app.core.render.visible import visible
from app.core.scans import audit, new_id
from app.core.tables import Suppression as SuppressionRow
from detectors.errors import InvalidRequest, NotFound
from detectors.report import LONGEST_SUPPRESSION, Suppression


def suppress(
    session: Session,
    actor: str,
    *,
    code: str,
    trigger: str | None,
    subject_digest: str | None,
    reason: str,
    owner: str,
    expires: datetime,
) -> SuppressionRow:
    """A suppression from now on.

    Args:
        actor: id of the key that asks.
        code: of the findings it covers.
        trigger: covers only findings with exactly this trigger.
        subject_digest: covers only the subject with these files.
        reason, owner: why, and who answers for it.
        expires: when it ends; a caller's clock may be ahead by minutes, so a little more than a year is a year.

    Raises:
        InvalidRequest: if a field is not as `detectors.report.Suppression` wants it.
    """
    created = now(session)
    latest = created + LONGEST_SUPPRESSION
    try:
        made = Suppression(
            code=code,
            trigger=trigger,
            subject_digest=subject_digest,
            reason=reason,
            owner=owner,
            created=created,
            expires=latest if latest < expires <= latest + CLOCK_SKEW else expires,
        )
    except ValidationError as error:
        raise InvalidRequest(f"this is no suppression: {_problems(error)}") from None
    row = SuppressionRow(
        id=new_id(),
        finding_code=made.code,
        created=made.created.timestamp(),
        expires=made.expires.timestamp(),
        **made.model_dump(include={"trigger", "subject_digest", "reason", "owner"}),
    )
    session.add(row)
    note(session)
    note(session, due=row.expires)
    detail = made.model_dump(mode="json", include={"code", "subject_digest", "reason", "owner", "expires"})
    audit(session, actor, "suppression.create", row.id, detail)
    return row


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)
    said = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in found]
    return "; ".join(visible(f"`{place}` {message}" if place else message, 300) for place, message in said)


def revoke_suppression(session: Session, suppression_id: str, actor: str) -> SuppressionRow:
    """Ends a suppression now. Idempotent.

    Raises:
        NotFound: if there is none with this id.
    """
    row = session.get(SuppressionRow, suppression_id)
    if row is None:
        raise NotFound(f"there is no suppression `{suppression_id}`; GET /v1/suppressions lists them")
    alive = (SuppressionRow.id == suppression_id, SuppressionRow.revoked.is_(None))
    ended = update(SuppressionRow).where(*alive).values(revoked=clock()).returning(SuppressionRow.id)
    if session.execute(ended).one_or_none():
        note(session)
        audit(session, actor, "suppression.revoke", suppression_id, {})
    session.refresh(row)
    return row
