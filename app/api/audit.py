"""The audit log: who did what to what, when. Rows are only ever added, and hold no secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select

from app.api.depends import Admin, ServicesOf
from app.api.pages import Cursor, Limit, decode_cursor, encode_cursor, link_next
from app.api.problems import responses
from app.api.schemas import Given, Page
from app.core.deciding import moment
from app.core.tables import Audit
from detectors.errors import InvalidRequest

router = APIRouter(prefix="/audit", tags=["audit"])

Filter = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class AuditRow(Given):
    """What was done.

    Attributes:
        actor: id of the key; `operator` on the machine itself, `anyone` by a share link.
        object: what it was done to, an id or a name.
        detail: what else there is to say; texts in it may be an attacker's.
    """

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    detail: dict[str, Any]


@router.get("", responses=responses())
def get_audit(
    caller: Admin,
    known: ServicesOf,
    request: Request,
    response: Response,
    actor: Filter = None,
    action: Filter = None,
    object: Filter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditRow]:
    """The log, the newest first."""
    wanted = select(Audit).order_by(Audit.id.desc()).limit(limit + 1)
    for column, value in ((Audit.actor, actor), (Audit.action, action), (Audit.object, object)):
        if value is not None:
            wanted = wanted.where(column == value)
    if cursor is not None:
        wanted = wanted.where(Audit.id < _row(cursor))
    with known.database.reading() as session:
        found = session.scalars(wanted).all()
    shown = found[:limit]
    following = encode_cursor(shown[-1].at, str(shown[-1].id)) if len(found) > limit else None
    link_next(request, response, following)
    return Page(items=[_view(row) for row in shown], next=following)


def _row(cursor: str) -> int:
    row_id = decode_cursor(cursor)[1]
    if not (row_id.isascii() and row_id.isdecimal() and len(row_id) < 19):
        raise InvalidRequest("`cursor` is none that this list gave; begin again without one")
    return int(row_id)


def _view(row: Audit) -> AuditRow:
    same = ("id", "actor", "action", "object", "detail")
    return AuditRow(at=moment(row.at), **{name: getattr(row, name) for name in same})
