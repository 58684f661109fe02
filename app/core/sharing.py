"""Share links: whoever knows the token may read one report, as a page, until the link ends.

The token is 256 random bits and kept as a hash only, like an API key (`app.core.keys`). A link ends after at most 30
days, when it is revoked, and when the key that made it is revoked. Every view is counted and noted; a token that opens
nothing leaves no trace in the database, so that nobody fills it from outside.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.database import Database, clock
from app.core.keys import allows, hash_of
from app.core.scans import audit, new_id
from app.core.tables import Key, Scan, ShareLink
from detectors.errors import Conflict, NotFound

DEFAULT_DAYS = 7
LONGEST_DAYS = 30
ANYONE = "anyone"
"""Who reads by a link, as the audit log calls them."""


def share(session: Session, scan_id: str, days: int, maker: Key) -> tuple[ShareLink, str]:
    """A link to the report of a scan, with its token, which is not kept and cannot be shown again.

    Raises:
        NotFound: if there is no such scan.
        Conflict: if it has no report.
    """
    scan = session.get(Scan, scan_id)
    if scan is None:
        raise NotFound(f"there is no scan `{scan_id}`; GET /v1/scans lists them")
    if scan.report_digest is None:
        raise Conflict(f"scan `{scan_id}` is {scan.state} and has no report to share; share one that has succeeded")
    created, token = session.scalar(select(clock())) or 0.0, secrets.token_urlsafe(32)
    link = ShareLink(
        id=new_id(),
        hash=hash_of(token),
        scan_id=scan_id,
        created=created,
        created_by=maker.id,
        expires=created + timedelta(days=days).total_seconds(),
        views=0,
    )
    session.add(link)
    audit(session, maker.id, "share_link.create", link.id, {"scan": scan_id, "days": days})
    return link, token


def open_link(database: Database, token: str, address: str) -> Scan | None:
    """The scan whose report a token opens; the view is counted. None if it opens nothing, for whatever reason.

    Args:
        address: where the request came from, for the record.
    """
    named = ShareLink.hash == hash_of(token)
    with database.reading() as session:
        if session.scalar(select(ShareLink.id).where(named)) is None:
            return None
    lives = (ShareLink.revoked.is_(None), ShareLink.expires > clock())
    by_living_key = ShareLink.created_by.in_(select(Key.id).where(Key.revoked.is_(None)))
    viewed = update(ShareLink).where(named, *lives, by_living_key).values(views=ShareLink.views + 1)
    with database.writing() as session:
        found = session.execute(viewed.returning(ShareLink.id, ShareLink.scan_id)).one_or_none()
        if found is None:
            return None
        audit(session, ANYONE, "share_link.view", found.id, {"scan": found.scan_id, "address": address[:64]})
        return session.get(Scan, found.scan_id)


def revoke_link(session: Session, link_id: str, actor: Key) -> ShareLink:
    """Ends a link. Idempotent.

    Raises:
        NotFound: if there is none with this id, or it is another key's and this one is no administrator's.
    """
    link = session.get(ShareLink, link_id)
    if link is None or not (link.created_by == actor.id or allows(actor, "admin")):
        raise NotFound(f"there is no share link `{link_id}` of this key; GET /v1/share-links lists them")
    alive = (ShareLink.id == link_id, ShareLink.revoked.is_(None))
    ended = update(ShareLink).where(*alive).values(revoked=clock()).returning(ShareLink.id)
    if session.execute(ended).one_or_none():
        audit(session, actor.id, "share_link.revoke", link_id, {})
    session.refresh(link)
    return link
