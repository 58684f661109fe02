"""API keys: `ts_<prefix>_<secret>`, 256 random bits, kept as a hash only.

The secret has all the strength, so one plain SHA-256 of it is as good as a slow hash, and can be looked up. The prefix
is what lists and logs show.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Literal, cast

from sqlalchemy import ColumnElement, case, or_, select, text, update
from sqlalchemy.orm import Session

from app.core.database import Database, clock
from app.core.scans import audit, new_id
from app.core.tables import Key
from detectors.errors import Conflict, InvalidRequest, NotFound

Scope = Literal["scan:write", "report:read", "admin"]
SCOPES: tuple[Scope, ...] = ("scan:write", "report:read", "admin")
"""What a key may be for; `admin` implies the others."""


def create_key(session: Session, name: str, scopes: Sequence[Scope], expires: float | None) -> tuple[Key, str]:
    """A new key, with the text of it, which is not kept and cannot be shown again.

    Args:
        expires: seconds since 1970; None is never.
    """
    prefix = secrets.token_hex(4)
    presented = f"ts_{prefix}_{secrets.token_urlsafe(32)}"
    key = Key(
        id=new_id(),
        name=name,
        prefix=prefix,
        hash=hash_of(presented),
        scopes=list(scopes),
        created=session.scalar(select(clock())),
        expires=expires,
        revoked=None,
    )
    session.add(key)
    session.flush()
    return key, presented


def find_key(session: Session, presented: str) -> Key | None:
    """The key that was presented; None if it is unknown, expired or revoked."""
    hashed = hash_of(presented)
    key = session.scalar(select(Key).where(Key.hash == hashed, *_lives()))
    return key if key is not None and hmac.compare_digest(key.hash, hashed) else None


def _lives() -> tuple[ColumnElement[bool], ...]:
    return Key.revoked.is_(None), or_(Key.expires.is_(None), Key.expires > clock())


def allows(key: Key, scope: str) -> bool:
    """Whether a key may do what needs a scope."""
    return scope in key.scopes or "admin" in key.scopes


def hash_of(presented: str) -> str:
    """What is kept of a key's text."""
    return hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()


def issue_key(
    session: Session, actor: str, name: str, scopes: Sequence[Scope], expires: float | None
) -> tuple[Key, str]:
    """A new key by an administrator's wish; see `create_key`.

    Raises:
        InvalidRequest: if it would have expired already.
    """
    now = session.scalar(select(clock())) or 0.0
    if expires is not None and expires <= now:
        raise InvalidRequest("`expires` must be in the future, by the service's clock; give a later time, or none")
    key, presented = create_key(session, name, scopes, expires)
    audit(session, actor, "key.create", key.id, {"name": name, "scopes": list(scopes), "expires": expires})
    return key, presented


def rotate_key(session: Session, key_id: str, actor: str, grace_s: float) -> tuple[Key, str]:
    """A new key with name, scopes and end of an old one, which is valid for `grace_s` more seconds.

    Raises:
        NotFound: if there is no such key.
        Conflict: if it is not valid any more.
    """
    old = _existing(session, key_id)
    ends = clock() + grace_s
    sooner = case((Key.expires < ends, Key.expires), else_=ends)
    living = update(Key).where(Key.id == key_id, *_lives()).values(expires=sooner).returning(Key.id)
    if session.execute(living, execution_options={"synchronize_session": False}).one_or_none() is None:
        raise Conflict(f"the key `{old.prefix}` is not valid any more; create a new one")
    new, presented = create_key(session, old.name, cast(list[Scope], old.scopes), old.expires)
    audit(session, actor, "key.rotate", key_id, {"new": new.id, "grace_s": grace_s})
    return new, presented


def revoke_key(session: Session, key_id: str, actor: str) -> Key:
    """Ends a key now, and the share links that it made. Idempotent.

    Raises:
        NotFound: if there is no such key.
        Conflict: if it is the last valid key of an administrator, without which nobody could make another.
    """
    key = _existing(session, key_id)
    _lock(session)
    if [one.id for one in _living_admins(session)] == [key_id]:
        raise Conflict(f"`{key.prefix}` is the last valid key with the scope `admin`; create another one first")
    alive = update(Key).where(Key.id == key_id, Key.revoked.is_(None)).values(revoked=clock()).returning(Key.id)
    if session.execute(alive, execution_options={"synchronize_session": False}).one_or_none():
        audit(session, actor, "key.revoke", key_id, {})
    session.refresh(key)
    return key


def ensure_admin_key(database: Database) -> str | None:
    """The text of a new key for the administrator where no valid one is left; None where there is one.

    Of several processes that start at once, one makes it.
    """
    with database.writing() as session:
        _lock(session)
        if _living_admins(session):
            return None
        key, presented = create_key(session, "first administrator", ["admin"], None)
        audit(session, "operator", "key.create", key.id, {"name": key.name, "scopes": key.scopes, "expires": None})
        return presented


def _existing(session: Session, key_id: str) -> Key:
    key = session.get(Key, key_id)
    if key is None:
        raise NotFound(f"there is no key `{key_id}`; GET /v1/keys lists them")
    return key


def _living_admins(session: Session) -> list[Key]:
    """Few enough to look at each: JSON is not searched the same way by every database."""
    return [key for key in session.scalars(select(Key).where(*_lives())) if "admin" in key.scopes]


def _lock(session: Session) -> None:
    """Until the transaction ends nobody else changes keys. On SQLite whoever writes is alone anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE api_key IN SHARE ROW EXCLUSIVE MODE"))
