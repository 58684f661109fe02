"""A scan's report, in the form that the caller accepts."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response

from app.api.depends import Reader, Services, ServicesOf
from app.api.etags import unchanged
from app.api.problems import responses
from app.api.scans import POLL_S, find_scan
from app.api.schemas import Id
from app.core.deciding import decision_on, policy_named, read_report
from app.core.render.formats import FORMATS
from app.core.tables import ENDED, Scan
from detectors.errors import Conflict, NotAcceptable, NotReady
from detectors.report import Decision, Report

router = APIRouter(prefix="/scans", tags=["reports"])

FormatName = Literal["text", "json", "html", "sarif", "junit", "markdown", "in-toto"]
DEFAULT: FormatName = "json"

HTML_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The report is one page with its own scripts and styles. In a sandbox it has no origin: no cookies, no requests."""

REPORT: dict[int | str, dict[str, Any]] = responses(404, 406, 409) | {
    200: {
        "description": "The report and the decision drawn from it now.",
        "content": {form.media_type: {"schema": {"type": "string"}} for form in FORMATS.values()}
        | {form.media_type: {} for form in FORMATS.values() if form.media_type.endswith("json")},
    },
    304: {"description": "Neither the report nor the decision has changed."},
}


@router.get("/{scan_id}/report", response_model=None, responses=REPORT)
def get_report(
    caller: Reader,
    known: ServicesOf,
    request: Request,
    scan_id: Id,
    form: Annotated[FormatName | None, Query(alias="format", description="Instead of `Accept`.")] = None,
    policy: Annotated[
        str | None,
        Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Instead of the scan's own."),
    ] = None,
    accept: Annotated[str, Header(max_length=1000)] = "*/*",
) -> Response:
    """The report, with the verdict as the policy and the suppressions of this moment draw it."""
    name = form or negotiate(accept)
    return render(request, name, *decided(known, scan_id, policy))


def render(request: Request, name: str, digest: str, report: Report, decision: Decision) -> Response:
    """A report in one form, unless the caller has it already.

    Args:
        name: of the form, in `FORMATS`.
        digest: of the report.
    """
    headers = {
        "ETag": f'"{_tag(name, digest, decision)}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Authorization",
    }
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if name == "html":
        headers["Content-Security-Policy"] = HTML_POLICY
    return Response(FORMATS[name].render(report, decision), 200, headers, FORMATS[name].media_type)


def negotiate(accept: str) -> str:
    """The form that an `Accept` header likes best; of several the first of the list, `*/*` is JSON.

    Raises:
        NotAcceptable: if there is none.
    """
    liked = sorted(_ranges(accept), key=lambda one: -one[1])
    for media_range, quality in liked:
        if quality > 0 and (name := _form_of(media_range)):
            return name
    offered = ", ".join(form.media_type for form in FORMATS.values())
    raise NotAcceptable(f"a report is given out as {offered}; accept one of them, or name a `format`")


def _ranges(accept: str) -> list[tuple[str, float]]:
    ranges = []
    for item in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((value for value in parameters if value.startswith("q=")), "q=1")
        try:
            ranges.append((media_range, float(quality.removeprefix("q="))))
        except ValueError:
            continue
    return ranges


def _form_of(media_range: str) -> str | None:
    if media_range in ("*/*", "application/*", ""):
        return DEFAULT
    kind = media_range.removesuffix("*") if media_range.endswith("/*") else None
    for name, form in FORMATS.items():
        if form.media_type == media_range or (kind and form.media_type.startswith(kind)):
            return name
    return None


def decided(known: Services, scan_id: str, policy: str | None = None) -> tuple[str, Report, Decision]:
    """Digest and report of a scan, and the decision of now.

    Args:
        policy: name of another than the scan's own.

    Raises:
        NotFound: if there is no such scan.
        NotReady: if it has not ended.
        Conflict: if it has ended without a report.
        PolicyError: if there is no such policy.
    """
    with known.database.reading() as session:
        scan = find_scan(session, scan_id)
        digest = _digest(scan)
        report = read_report(known.blobs, digest)
        return digest, report, decision_on(session, report, policy_named(session, policy or scan.policy))


def _digest(scan: Scan) -> str:
    if scan.report_digest is not None:
        return scan.report_digest
    if scan.state in ENDED:
        why = f": {scan.error_message}" if scan.error_message else ""
        raise Conflict(f"the scan `{scan.id}` has {scan.state} and left no report{why}; submit it again")
    raise NotReady(
        f"the scan `{scan.id}` is {scan.state}, its report is not there yet; ask again", retry_after_s=POLL_S
    )


def _tag(name: str, digest: str, decision: Decision) -> str:
    said = f"{version('touchstone')}\0{name}\0{digest}\0{decision.model_dump_json()}"
    return hashlib.sha256(said.encode()).hexdigest()[:32]
