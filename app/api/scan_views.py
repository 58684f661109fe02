"""What the API says of a scan."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.api.schemas import Given
from app.core.deciding import moment
from app.core.scans import DRIVE
from app.core.summaries import Summaries
from app.core.tables import Chunk, Scan, State
from detectors.report import Coverage, Verdict


class Progress(Given):
    """How far a scan is.

    Attributes:
        done, total: work in next-token observations; both grow when a candidate needs confirming.
        phase: what runs, in a word; empty before anything does.
        eta_s: seconds that are left; null where nobody can say.
    """

    done: float
    total: float
    phase: str
    eta_s: float | None


class Digests(Given):
    """SHA-256 of files, of contents (tensors, tokenizer, template) and of the report; null until known."""

    subject: str | None
    base: str | None
    subject_content: str | None
    base_content: str | None
    report: str | None


class ScanError(Given):
    """Why a scan failed; `docs/reference/errors.md` lists the codes."""

    code: str
    message: str


class ScanView(Given):
    """A scan.

    Attributes:
        version: grows with every change; the `ETag` of the scan and the id of its events.
        state: where the scan is. A scan that is not `succeeded` has no verdict, whatever it found so far.
        verdict: of the latest decision under the scan's policy; null until decided.
        model, base: as they were given; an inferred base is filled in when it is found.
        pinned: what they were resolved to, once.
        reused_from: the scan whose report answered this one.
    """

    id: Annotated[str, Field(examples=["4f5c2a7be0c14c0f9a3d5a1be2f0c7d1"])]
    version: int
    state: State
    verdict: Verdict | None
    model: str
    base: str | None
    suite: str
    policy: str
    labels: list[str]
    seed: int
    expected: list[Any]
    created: datetime
    started: datetime | None
    ended: datetime | None
    cancel_requested: bool
    progress: Progress
    pinned: dict[str, str]
    digests: Digests
    error: ScanError | None
    reused_from: str | None


class ScanDetail(ScanView):
    """A scan with what its report covers.

    Attributes:
        attempts: how often a worker has taken the scan up.
        coverage: what was tested and what was not; null without a report.
        findings: number of findings by severity; null without a report.
    """

    attempts: int
    coverage: Coverage | None
    findings: dict[str, int] | None


def view(scan: Scan) -> ScanView:
    """A scan as lists and events show it."""
    return ScanView(**_fields(scan))


def detail(session: Session, summaries: Summaries, scan: Scan) -> ScanDetail:
    """A scan in full."""
    driving = select(Chunk.lease_version).where(Chunk.scan_id == scan.id, Chunk.kind == "drive", Chunk.key == DRIVE)
    summary = summaries.of(scan.report_digest) if scan.report_digest else None
    return ScanDetail(
        **_fields(scan),
        attempts=session.scalar(driving) or 0,
        coverage=summary.coverage if summary else None,
        findings=summary.findings if summary else None,
    )


def _fields(scan: Scan) -> dict[str, Any]:
    same = ("id", "version", "state", "verdict", "model", "base", "suite", "policy", "labels", "seed", "expected")
    pins = {"model": scan.subject_pin, "base": scan.base_pin}
    return {name: getattr(scan, name) for name in (*same, "cancel_requested", "reused_from")} | {
        "created": moment(scan.created),
        "started": moment(scan.started) if scan.started else None,
        "ended": moment(scan.ended) if scan.ended else None,
        "progress": Progress(done=scan.done, total=scan.total, phase=scan.phase, eta_s=scan.eta_s),
        "pinned": {role: f"{pin['pinned']} ({pin['revision']})" for role, pin in pins.items() if pin},
        "digests": Digests(
            subject=scan.subject_digest,
            base=scan.base_digest,
            subject_content=scan.subject_content,
            base_content=scan.base_content,
            report=scan.report_digest,
        ),
        "error": ScanError(code=scan.error_code, message=scan.error_message or "") if scan.error_code else None,
    }
