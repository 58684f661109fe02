"""API keys: `ts_<prefix>_<secret>`, 256 random bits, kept as a hash only.

The secret has all the strength, so one plain SHA-256 of it is as good as a slow hash, and can be looked up. The prefix
is what lists and logs show.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.core.database import clock
from app.core.scans import new_id
from app.core.tables import Key

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
    lives = (Key.revoked.is_(None), or_(Key.expires.is_(None), Key.expires > clock()))
    key = session.scalar(select(Key).where(Key.hash == hashed, *lives))
    return key if key is not None and hmac.compare_digest(key.hash, hashed) else None


def allows(key: Key, scope: str) -> bool:
    """Whether a key may do what needs a scope."""
    return scope in key.scopes or "admin" in key.scopes


def hash_of(presented: str) -> str:
    """What is kept of a key's text."""
    return hashlib.sha256(presented.encode("utf-8", "surrogatepass")).hexdigest()
