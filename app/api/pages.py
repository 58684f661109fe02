"""Keyset pages: a cursor says after which row the next page begins, so rows that come in between shift nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from detectors.errors import InvalidRequest

Limit = Annotated[int, Query(ge=1, le=200, description="Rows of a page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=200, pattern=r"^[A-Za-z0-9_-]+$", description="`next` of the page before; opaque."),
]


def encode_cursor(created: float, row_id: str) -> str:
    """The cursor of the page after a row."""
    return base64.urlsafe_b64encode(json.dumps([created, row_id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """The row that a cursor stands for.

    Raises:
        InvalidRequest: if it is none of ours.
    """
    try:
        created, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if type(created) is not float or type(row_id) is not str or "\0" in row_id or created != created:
            raise ValueError(cursor)
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest("`cursor` is none that this service gave; begin again without one") from None
    return created, row_id


def newest_first(
    session: Session, wanted: Select[Any], table: Any, limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    """A page of rows by their time of creation, with the cursor of the following one.

    Raises:
        InvalidRequest: if the cursor is none of ours.
    """
    if cursor is not None:
        wanted = wanted.where(tuple_(table.created, table.id) < tuple_(*decode_cursor(cursor)))
    found = session.scalars(wanted.order_by(table.created.desc(), table.id.desc()).limit(limit + 1)).all()
    shown = found[:limit]
    return shown, encode_cursor(shown[-1].created, shown[-1].id) if len(found) > limit else None


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Names the following page in a `Link` header (RFC 8288)."""
    if cursor is not None:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        response.headers["Link"] = f'<{request.url.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'
