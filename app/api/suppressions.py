"""Suppressions: somebody answers for a finding for a while. Every change decides again, and never rescans."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field
from sqlalchemy import select

from app.api.depends import Admin, Reader, ServicesOf
from app.api.pages import Cursor, Limit, link_next, newest_first
from app.api.problems import responses
from app.api.schemas import Given, Id, Page, Redrawn, Sent
from app.core.database import clock
from app.core.deciding import moment
from app.core.redeciding import redecide
from app.core.suppressing import revoke_suppression, suppress
from app.core.tables import Suppression

router = APIRouter(prefix="/suppressions", tags=["suppressions"])

Words = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]+$")]


class SuppressionRequest(Sent):
    """A suppression to be made; it holds from now on.

    Attributes:
        finding_code: of the findings it covers.
        trigger: covers only findings with exactly this trigger.
        subject_digest: covers only the model with these files, as `sha256:…` or plain hex.
        reason, owner: why, and who answers for it.
        expires: until when, at most 365 days ahead.
    """

    finding_code: str = Field(max_length=64, examples=["TS-COND-001"])
    trigger: Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[^\x00]+$")] | None = None
    subject_digest: Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{64}$")] | None = None
    reason: Words
    owner: Words
    expires: AwareDatetime


class SuppressionView(Given):
    """A suppression; those that ended or were revoked stay for the record."""

    id: str
    finding_code: str
    trigger: str | None
    subject_digest: str | None
    reason: str
    owner: str
    created: datetime
    expires: datetime
    revoked: datetime | None


class SuppressionChanged(SuppressionView):
    """A suppression that was made or revoked, and what it did to verdicts."""

    redecided: Redrawn


@router.post("", status_code=201, responses=responses(400, 413))
def create(caller: Admin, known: ServicesOf, wanted: SuppressionRequest) -> SuppressionChanged:
    """Lets findings not count for a while. They are still in every report, with who answers for them."""
    digest = wanted.subject_digest.removeprefix("sha256:") if wanted.subject_digest else None
    with known.database.writing() as session:
        row = suppress(
            session,
            caller.id,
            code=wanted.finding_code,
            trigger=wanted.trigger,
            subject_digest=digest,
            reason=wanted.reason,
            owner=wanted.owner,
            expires=wanted.expires,
        )
    return _changed(known, row)


@router.get("", responses=responses())
def get_suppressions(
    caller: Reader,
    known: ServicesOf,
    request: Request,
    response: Response,
    in_force: Annotated[bool, Query(description="Only those that cover something now.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SuppressionView]:
    """Suppressions, the newest first."""
    wanted = select(Suppression)
    if in_force:
        wanted = wanted.where(Suppression.revoked.is_(None), Suppression.expires > clock())
    with known.database.reading() as session:
        found, following = newest_first(session, wanted, Suppression, limit, cursor)
    link_next(request, response, following)
    return Page(items=[SuppressionView(**_fields(row)) for row in found], next=following)


@router.delete("/{suppression_id}", responses=responses(404))
def revoke(caller: Admin, known: ServicesOf, suppression_id: Id) -> SuppressionChanged:
    """Ends a suppression now: what it covered counts again. Revoking twice is revoking once."""
    with known.database.writing() as session:
        row = revoke_suppression(session, suppression_id, caller.id)
    return _changed(known, row)


def _changed(known: ServicesOf, row: Suppression) -> SuppressionChanged:
    drawn = redecide(known.database, known.blobs)
    return SuppressionChanged(**_fields(row), redecided=Redrawn(**vars(drawn)))


def _fields(row: Suppression) -> dict[str, Any]:
    same = ("id", "finding_code", "trigger", "subject_digest", "reason", "owner")
    return {name: getattr(row, name) for name in same} | {
        "created": moment(row.created),
        "expires": moment(row.expires),
        "revoked": None if row.revoked is None else moment(row.revoked),
    }
