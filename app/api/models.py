"""Models with their history. A reference has slashes in it, so it is asked for as `?model=`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select

from app.api.depends import Reader, ServicesOf
from app.api.pages import Cursor, Limit, decode_cursor, encode_cursor, link_next, newest_first
from app.api.problems import responses
from app.api.scan_views import ScanView, view
from app.api.schemas import Given, Page
from app.core.deciding import moment
from app.core.model_index import Model, list_models
from app.core.render.visible import visible
from app.core.tables import Scan, State
from detectors.errors import InvalidRequest, NotFound
from detectors.report import Verdict

router = APIRouter(prefix="/models", tags=["models"])

Reference = Annotated[
    str, Query(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$", description="Exactly as it was given.")
]


class LatestScan(Given):
    """A scan, in short.

    Attributes:
        verdict: of the latest decision under the scan's policy; null until decided.
        subject_digest: of the files that it read; null until it has.
    """

    id: str
    state: State
    verdict: Verdict | None
    suite: str
    policy: str
    base: str | None
    subject_digest: str | None
    created: datetime
    ended: datetime | None


class ModelView(Given):
    """A reference that was scanned.

    Attributes:
        scans: how many times.
        newest: the newest scan, whatever its state.
        reported: the newest scan with a report; its verdict is about the files that it names.
    """

    model: str
    scans: int
    newest: LatestScan
    reported: LatestScan | None


@router.get("", responses=responses())
def get_models(
    caller: Reader, known: ServicesOf, request: Request, response: Response, limit: Limit = 50, cursor: Cursor = None
) -> Page[ModelView]:
    """Every reference that was scanned, in alphabetical order."""
    with known.database.reading() as session:
        after = _reference(session, cursor) if cursor else None
        found = list_models(session, after, limit + 1)
    shown = found[:limit]
    following = encode_cursor(shown[-1].newest.created, shown[-1].newest.id) if len(found) > limit else None
    link_next(request, response, following)
    return Page(items=[_view(model) for model in shown], next=following)


@router.get("/scans", responses=responses(404))
def get_history(
    caller: Reader,
    known: ServicesOf,
    request: Request,
    response: Response,
    model: Reference,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ScanView]:
    """All scans of a model, the newest first."""
    with known.database.reading() as session:
        found, following = newest_first(session, select(Scan).where(Scan.model == model), Scan, limit, cursor)
    if not found and cursor is None:
        raise NotFound(f"there is no scan of `{visible(model, 200)}`; GET /v1/models lists what was scanned")
    link_next(request, response, following)
    return Page(items=[view(scan) for scan in found], next=following)


def _reference(session: Any, cursor: str) -> str:
    """A reference is longer than a cursor may be, so the cursor names a scan of it."""
    scan: Scan | None = session.get(Scan, decode_cursor(cursor)[1])
    if scan is None:
        raise InvalidRequest("`cursor` is none that this service gave, or too old; begin again without one")
    return scan.model


def _view(model: Model) -> ModelView:
    return ModelView(
        model=model.reference,
        scans=model.scans,
        newest=_short(model.newest),
        reported=_short(model.reported) if model.reported else None,
    )


def _short(scan: Scan) -> LatestScan:
    same = ("id", "state", "verdict", "suite", "policy", "base", "subject_digest")
    return LatestScan(
        **{name: getattr(scan, name) for name in same},
        created=moment(scan.created),
        ended=None if scan.ended is None else moment(scan.ended),
    )
