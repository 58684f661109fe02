"""API keys: make, list, rotate, revoke. A key's text is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, Field
from sqlalchemy import select

from app.api.depends import Admin, ServicesOf
from app.api.pages import Cursor, Limit, link_next, newest_first
from app.api.problems import responses
from app.api.schemas import Given, Id, Page, Sent
from app.core.deciding import moment
from app.core.keys import Scope, issue_key, revoke_key, rotate_key
from app.core.tables import Key

router = APIRouter(prefix="/keys", tags=["keys"])

DAY_S = 24 * 3600


class KeyRequest(Sent):
    """A key to be made.

    Attributes:
        scopes: what it is for; `admin` implies the others.
        expires: when it ends; left out, when it is revoked.
    """

    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["search team, pipeline"])
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]
    expires: AwareDatetime | None = None


class Rotation(Sent):
    """How a key is replaced.

    Attributes:
        grace_s: seconds that the old key stays valid; 0 ends it at once.
    """

    grace_s: int = Field(default=DAY_S, ge=0, le=7 * DAY_S)


class KeyView(Given):
    """A key, without its text.

    Attributes:
        prefix: the part of its text that tells it apart.
    """

    id: str
    name: str
    prefix: str
    scopes: list[str]
    created: datetime
    expires: datetime | None
    revoked: datetime | None


class NewKey(KeyView):
    """A key with its text, which is shown this once."""

    key: str = Field(examples=["ts_1f2e3d4c_…"])


@router.post("", status_code=201, responses=responses(400, 413))
def create_key(caller: Admin, known: ServicesOf, wanted: KeyRequest, response: Response) -> NewKey:
    """Makes a key. Its text cannot be shown again."""
    expires = wanted.expires.timestamp() if wanted.expires else None
    with known.database.writing() as session:
        made = issue_key(session, caller.id, wanted.name, tuple(dict.fromkeys(wanted.scopes)), expires)
    return _new(*made, response)


@router.get("", responses=responses())
def list_keys(
    caller: Admin, known: ServicesOf, request: Request, response: Response, limit: Limit = 50, cursor: Cursor = None
) -> Page[KeyView]:
    """All keys, the newest first; those that have ended too."""
    with known.database.reading() as session:
        found, following = newest_first(session, select(Key), Key, limit, cursor)
    link_next(request, response, following)
    return Page(items=[KeyView(**_fields(key)) for key in found], next=following)


@router.post("/{key_id}/rotate", status_code=201, responses=responses(400, 404, 409, 413))
def rotate(caller: Admin, known: ServicesOf, key_id: Id, wanted: Rotation, response: Response) -> NewKey:
    """Makes a key with name, scopes and end of an old one, which stays valid for a while."""
    with known.database.writing() as session:
        made = rotate_key(session, key_id, caller.id, float(wanted.grace_s))
    return _new(*made, response)


@router.delete("/{key_id}", responses=responses(404, 409))
def revoke(caller: Admin, known: ServicesOf, key_id: Id) -> KeyView:
    """Ends a key now, and the share links that it made. Revoking twice is revoking once."""
    with known.database.writing() as session:
        return KeyView(**_fields(revoke_key(session, key_id, caller.id)))


def _new(key: Key, presented: str, response: Response) -> NewKey:
    response.headers["Cache-Control"] = "no-store"
    return NewKey(**_fields(key), key=presented)


def _fields(key: Key) -> dict[str, Any]:
    times = {"created": key.created, "expires": key.expires, "revoked": key.revoked}
    return {name: getattr(key, name) for name in ("id", "name", "prefix", "scopes")} | {
        name: None if at is None else moment(at) for name, at in times.items()
    }
