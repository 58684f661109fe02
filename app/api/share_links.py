"""Share links: a report for somebody without a key, for a while.

Whoever may read a report may share it: the link gives nothing away that its maker could not send by mail, but ends,
can be revoked, and is in the audit log.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from sqlalchemy import select

from app.api.depends import Reader, Services, ServicesOf
from app.api.pages import Cursor, Limit, link_next, newest_first
from app.api.problems import problem, responses
from app.api.reports import HTML_POLICY
from app.api.schemas import Given, Id, Page, Sent
from app.core.deciding import decision_on, moment, policy_named, read_report
from app.core.keys import allows
from app.core.render.formats import FORMATS
from app.core.sharing import DEFAULT_DAYS, LONGEST_DAYS, open_link, revoke_link, share
from app.core.tables import Scan, ShareLink
from detectors.errors import NotFound

router = APIRouter(prefix="/share-links", tags=["share links"])
public = APIRouter()
"""Outside of `/v1`, and without a key."""

HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
LONGEST_TOKEN = 100
NOTHING = "this link opens nothing: it has ended, or was never made; ask whoever sent it for another"


class ShareRequest(Sent):
    """A link to be made.

    Attributes:
        scan_id: whose report it opens.
        days: how long.
    """

    scan_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    days: int = Field(default=DEFAULT_DAYS, ge=1, le=LONGEST_DAYS)


class ShareLinkView(Given):
    """A link, without its address.

    Attributes:
        created_by: id of the key that made it.
        views: how often its page was shown.
    """

    id: str
    scan_id: str
    created: datetime
    created_by: str
    expires: datetime
    revoked: datetime | None
    views: int


class NewShareLink(ShareLinkView):
    """A link with its address below that of the service, which is shown this once."""

    path: str = Field(examples=["/s/…"])


@router.post("", status_code=201, responses=responses(400, 404, 409, 413))
def create(caller: Reader, known: ServicesOf, wanted: ShareRequest, response: Response) -> NewShareLink:
    """Makes a link to a report. Its address cannot be shown again."""
    with known.database.writing() as session:
        link, token = share(session, wanted.scan_id, wanted.days, caller)
    response.headers["Cache-Control"] = "no-store"
    return NewShareLink(**_fields(link), path=f"/s/{token}")


@router.get("", responses=responses())
def list_links(
    caller: Reader, known: ServicesOf, request: Request, response: Response, limit: Limit = 50, cursor: Cursor = None
) -> Page[ShareLinkView]:
    """The links that this key made, the newest first; an administrator sees everybody's."""
    wanted = select(ShareLink)
    if not allows(caller, "admin"):
        wanted = wanted.where(ShareLink.created_by == caller.id)
    with known.database.reading() as session:
        found, following = newest_first(session, wanted, ShareLink, limit, cursor)
    link_next(request, response, following)
    return Page(items=[ShareLinkView(**_fields(link)) for link in found], next=following)


@router.delete("/{link_id}", responses=responses(404))
def revoke(caller: Reader, known: ServicesOf, link_id: Id) -> ShareLinkView:
    """Ends a link that this key made, or as an administrator any. Revoking twice is revoking once."""
    with known.database.writing() as session:
        return ShareLinkView(**_fields(revoke_link(session, link_id, caller)))


@public.get("/s/{token}", include_in_schema=False)
def show(known: ServicesOf, request: Request, token: str) -> Response:
    """The report that a link opens, as a page, with the decision of this moment."""
    address = request.client.host if request.client else ""
    known.limiter.view(address)
    scan = open_link(known.database, token, address) if len(token) <= LONGEST_TOKEN else None
    if scan is None:
        return problem(request, 404, NotFound, NOTHING, HEADERS)
    return Response(_page(known, scan), 200, HEADERS | {"Content-Security-Policy": HTML_POLICY}, "text/html")


def _page(known: Services, scan: Scan) -> str:
    with known.database.reading() as session:
        report = read_report(known.blobs, str(scan.report_digest))
        return FORMATS["html"].render(report, decision_on(session, report, policy_named(session, scan.policy)))


def _fields(link: ShareLink) -> dict[str, Any]:
    return {name: getattr(link, name) for name in ("id", "scan_id", "created_by", "views")} | {
        "created": moment(link.created),
        "expires": moment(link.expires),
        "revoked": None if link.revoked is None else moment(link.revoked),
    }
