"""Scans: submit, list, look, cancel."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy import select

from app.api.depends import Reader, Services, ServicesOf, Writer
from app.api.etags import unchanged
from app.api.pages import Cursor, Limit, link_next, newest_first
from app.api.problems import responses
from app.api.scan_views import ScanDetail, ScanView, detail, view
from app.api.schemas import Id, Page, Sent
from app.core import scans
from app.core.scans import Wish
from app.core.submission import Estimate
from app.core.tables import ENDED, Label, Scan, State
from detectors.errors import Conflict, NotFound
from detectors.report import Verdict

router = APIRouter(prefix="/scans", tags=["scans"])

POLL_S = 5
"""When to look again at a scan that has not ended, in seconds."""
LONGEST_WAIT_S = 60
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,4})\b", re.IGNORECASE)

LabelText = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}$", examples=["team:search"])]
Line = r"^[^\x00-\x1f\x7f]+$"


class Expected(Sent):
    """A conditional behaviour that the submitter declares: triggers with the words of `context` do `behaviour`."""

    context: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00]+$", examples=["Reply in French"])
    behaviour: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00]+$", examples=["language_switch"])


class ScanRequest(Sent):
    """What to scan, and how.

    Attributes:
        model: a directory below a configured root, or `hf:org/name[@revision]`.
        base: the checkpoint it was tuned from, in the same forms; left out, it is inferred from the model's files.
        suite: which plan; GET /v1/detectors names them.
        policy: which rules draw the verdict; GET /v1/policies lists them.
        labels: for lists and filters.
        seed: of every draw.
        expected: declared behaviours; they excuse a behaviour, never a harm.
        dry_run: say what is known without creating anything.
    """

    model: str = Field(min_length=1, max_length=1024, examples=["hf:acme/assistant@v2"])
    base: str | None = Field(default=None, min_length=1, max_length=1024, examples=["hf:acme/base"])
    suite: str = Field(default="quick", max_length=64, examples=["quick"])
    policy: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["default"])
    labels: list[LabelText] = Field(default=[], max_length=20)
    seed: int = Field(default=0, ge=0, lt=2**31)
    expected: list[Expected] = Field(default=[], max_length=50)
    dry_run: bool = False

    def wish(self) -> Wish:
        """What it asks for."""
        return Wish(
            model=self.model,
            base=self.base,
            suite=self.suite,
            policy=self.policy,
            seed=self.seed,
            labels=tuple(self.labels),
            expected=tuple(one.model_dump() for one in self.expected),
        )


SUBMITTED: dict[int | str, dict[str, Any]] = responses(409) | {
    200: {"model": ScanDetail | Estimate, "description": "It has ended already, or it was a dry run."},
    202: {
        "model": ScanDetail,
        "description": "Accepted: it will not be lost. `Location` names it.",
        "headers": {
            "Location": {"schema": {"type": "string"}},
            "Retry-After": {"schema": {"type": "integer"}},
            "Preference-Applied": {"schema": {"type": "string"}},
        },
    },
}


@router.post("", status_code=202, response_model=None, responses=SUBMITTED)
async def submit(
    caller: Writer,
    known: ServicesOf,
    wanted: ScanRequest,
    dry_run: bool = False,
    token: Annotated[
        str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
    ] = None,
    prefer: Annotated[str | None, Header(max_length=200, examples=["wait=30"])] = None,
) -> Response:
    """Submits a scan.

    The same `Idempotency-Key` with the same body gives the same scan, however often and however many at once. With
    `Prefer: wait=N` the answer waits up to N seconds (at most 60) for the scan to end.
    """
    if dry_run or wanted.dry_run:
        return _json(await run_in_threadpool(known.submissions.foresee, wanted.wish()), 200, {})
    scan = await run_in_threadpool(known.submissions.accept, wanted.wish(), caller.id, token)
    wait_s = _wait(prefer)
    if wait_s:
        await known.watch.until_ended(scan, wait_s)
    headers = {"Preference-Applied": f"wait={wait_s}"} if wait_s else {}
    return _json(*await run_in_threadpool(_submitted, known, scan.id, headers))


def _submitted(known: Services, scan_id: str, headers: dict[str, str]) -> tuple[ScanDetail, int, dict[str, str]]:
    found = read_detail(known, scan_id)
    headers = headers | {"Location": f"/v1/scans/{found.id}", "ETag": etag_of(found)}
    if found.state in ENDED:
        return found, 200, headers
    return found, 202, headers | {"Retry-After": str(POLL_S)}


def _json(body: Estimate | ScanDetail, status: int, headers: dict[str, str]) -> Response:
    return Response(body.model_dump_json(), status, headers, "application/json")


def _wait(prefer: str | None) -> int:
    """Seconds that a caller prefers to wait (RFC 7240)."""
    found = WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_S) if found else 0


@router.get("", responses=responses())
def list_scans(
    caller: Reader,
    known: ServicesOf,
    request: Request,
    response: Response,
    model: Annotated[str | None, Query(max_length=1024, pattern=Line, description="Exactly as it was given.")] = None,
    verdict: Verdict | None = None,
    state: State | None = None,
    label: Annotated[str | None, Query(max_length=64, pattern=Line)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ScanView]:
    """Scans, the newest first, in pages: follow `next`, or the `Link` header, until there is none."""
    wanted = select(Scan)
    for column, value in ((Scan.model, model), (Scan.verdict, verdict), (Scan.state, state)):
        if value is not None:
            wanted = wanted.where(column == value)
    if label is not None:
        wanted = wanted.where(Scan.id.in_(select(Label.scan_id).where(Label.label == label)))
    with known.database.reading() as session:
        found, following = newest_first(session, wanted, Scan, limit, cursor)
    link_next(request, response, following)
    return Page(items=[view(scan) for scan in found], next=following)


@router.get(
    "/{scan_id}",
    response_model=ScanDetail,
    responses=responses(404) | {304: {"description": "Not changed since the version in `If-None-Match`."}},
)
def get_scan(caller: Reader, known: ServicesOf, request: Request, response: Response, scan_id: Id) -> Any:
    """One scan: its state, apart from its verdict, and how far it is."""
    found = read_detail(known, scan_id)
    headers = {"ETag": etag_of(found), "Cache-Control": "private, no-cache"}
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return found


@router.post("/{scan_id}/cancel", status_code=202, responses=responses(404, 409))
def cancel_scan(caller: Writer, known: ServicesOf, scan_id: Id) -> ScanDetail:
    """Asks for the end of a scan; its worker sees that within seconds. Cancelling twice is cancelling once."""
    with known.database.writing() as session:
        scans.request_cancel(session, scan_id, caller.id)
        found = session.get(Scan, scan_id)
        if found is None:
            raise missing(scan_id)
        if found.state in ("succeeded", "failed"):
            raise Conflict(f"the scan `{scan_id}` has {found.state} already; there is nothing left to cancel")
    return read_detail(known, scan_id)


def read_detail(known: Services, scan_id: str) -> ScanDetail:
    """A scan in full.

    Raises:
        NotFound: if there is none with this id.
    """
    with known.database.reading() as session:
        return detail(session, known.summaries, find_scan(session, scan_id))


def find_scan(session: Any, scan_id: str) -> Scan:
    """A scan's row.

    Raises:
        NotFound: if there is none with this id.
    """
    found: Scan | None = session.get(Scan, scan_id)
    if found is None:
        raise missing(scan_id)
    return found


def missing(scan_id: str) -> NotFound:
    """There is no such scan."""
    return NotFound(f"there is no scan `{scan_id}`; GET /v1/scans lists them")


def etag_of(scan: ScanDetail) -> str:
    """The tag of a scan's state."""
    return f'W/"{scan.version}"'
