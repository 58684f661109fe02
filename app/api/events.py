"""A scan's changes as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.api.depends import Reader, Services, ServicesOf
from app.api.problems import responses
from app.api.scan_views import view
from app.api.scans import find_scan
from app.api.schemas import Id
from app.core.tables import ENDED, Scan

router = APIRouter(prefix="/scans", tags=["scans"])

HEARTBEAT_S = 15
STREAM_S = 15 * 60
"""A stream ends after this long; whoever resumes it shows the key again, so a revoked one does not watch for ever."""
SEND_S = 30
"""Seconds after which a client that takes nothing is dropped."""

STREAM: dict[int | str, dict[str, Any]] = responses(404) | {
    200: {
        "description": "One `scan` event for each state seen; its `id` is the scan's version, its data the scan.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The scan has ended, and its last event is the one in `Last-Event-ID`: do not come again."},
}


@router.get("/{scan_id}/events", response_model=None, response_class=EventSourceResponse, responses=STREAM)
async def scan_events(
    caller: Reader,
    known: ServicesOf,
    scan_id: Id,
    last: Annotated[int, Header(alias="Last-Event-ID", ge=0, lt=2**31, description="Version seen last.")] = 0,
) -> Response:
    """The scan now, and again whenever it changes, until it has ended.

    Changes within half a second come as one event. `Last-Event-ID` resumes: what was seen is not sent again.
    """
    scan = await run_in_threadpool(_read, known, scan_id)
    if scan.state in ENDED and scan.version <= last:
        return Response(status_code=204)
    return EventSourceResponse(_events(known, scan, last), ping=HEARTBEAT_S, send_timeout=SEND_S)


def _read(known: Services, scan_id: str) -> Scan:
    with known.database.reading() as session:
        return find_scan(session, scan_id)


async def _events(known: Services, scan: Scan, last: int) -> AsyncIterator[ServerSentEvent]:
    async for changed in known.watch.changes(scan, last, STREAM_S):
        yield ServerSentEvent(view(changed).model_dump_json(), event="scan", id=str(changed.version))
