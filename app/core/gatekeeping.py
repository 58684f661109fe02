"""The gate of the service: what a reference names now, every report on those contents, and the gravest answer.

A reference is pinned when it is asked about, and a pin leads to contents only through a scan that read them: a
directory that was touched since, or a commit that nobody scanned, is unknown, and the gate closed. The rules are in
`app.core.gating`; here they are put to each report on the contents, decided on again at that moment, and

* findings stop the model, whichever report has them, however old;
* else a valid report opens the gate, one that warns before one that passes;
* else the newest report says what is lacking.

A scan that ended with an earlier report (`reused_from`) has read the same contents with the same scanner, so it makes
that report as young as itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy.orm import Session

from app.core.database import Database
from app.core.deciding import decision_on, moment, now, policy_named, read_report
from app.core.gating import Gate, ReportFacts, gate
from app.core.registries.reference import quoted
from app.core.registries.resolving import Pinned, resolve
from app.core.render.visible import visible
from app.core.scans import audit
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.tables import ENDED, Scan, State
from detectors.report import VERDICTS, Policy, Verdict

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
"""A digest of a model's files in place of a reference."""

GRAVE: tuple[Verdict, ...] = ("strong_evidence", "suspicious")
"""Verdicts that speak of something found, not of something lacking."""


@dataclass(frozen=True)
class Question:
    """What is asked of the gate.

    Attributes:
        model: reference, or `sha256:` and the digest of its files.
        base: of the base that the model must have been compared with, likewise; None takes any.
        policy: name of the rules.
        max_age: oldest report that the caller takes; it can only be stricter than the policy.
    """

    model: str
    base: str | None = None
    policy: str = "default"
    max_age: timedelta | None = None


class Answer(Gate):
    """The answer of the gate; `scan_id` is an id of this service.

    Attributes:
        state: of the newest scan of the same model that has not ended.
        open_scan_id: id of that scan.
    """

    state: State | None = None
    open_scan_id: str | None = None


def ask(database: Database, blobs: Blobs, settings: Settings, question: Question, actor: str) -> Answer:
    """Whether a model may be deployed. The answer is in the audit log before it is given.

    Args:
        actor: id of the key that asks.

    Raises:
        InputError: if a reference names nothing that can be scanned, or there is no such policy.
        MachineError: if the database, the reports or a hub cannot be read.
    """
    model = _named(question.model, settings)
    base = None if question.base is None else _named(question.base, settings)
    with database.reading() as session:
        answer = _answer(session, blobs, question, model, base)
    with database.writing() as session:
        told = answer.model_dump(mode="json", exclude={"reason", "report_digest"}, exclude_none=True)
        audit(session, actor, "gate.ask", visible(question.model, 200), told)
    return answer


def _named(reference: str, settings: Settings) -> Pinned | str:
    """What a reference names now, or the digest that it is."""
    found = DIGEST.fullmatch(reference)
    return found[1] if found else resolve(reference, settings)


def _answer(
    session: Session, blobs: Blobs, question: Question, model: Pinned | str, base: Pinned | str | None
) -> Answer:
    policy = policy_named(session, question.policy)
    digests = [model] if isinstance(model, str) else _digests(session, model)
    if len(digests) == 1:
        answers = list(_answers(session, blobs, question, policy, digests[0], base))
        found = min(answers, key=_rank, default=None) or _no_report(session, policy, digests[0])
    else:
        found = _unknown(question, policy, digests)
    unfinished = _unfinished(session, question, model)
    state, scan_id = unfinished if unfinished else (None, None)
    return Answer(**found.model_dump(), state=state, open_scan_id=scan_id)


def _digests(session: Session, model: Pinned) -> list[str]:
    """Digests of the files that scans found under a pin: none before the first, one after it."""
    read = (Scan.subject_revision == model.revision, Scan.subject_digest.is_not(None))
    rows = session.execute(select(Scan.subject_pin, Scan.subject_digest).where(*read))
    return sorted({str(digest) for pin, digest in rows if pin and pin["pinned"] == model.pinned})


def _unknown(question: Question, policy: Policy, digests: list[str]) -> Gate:
    if not digests:
        reason = (
            f"There is no report on what {quoted(question.model)} names now: scan the model, and leave its files as "
            "they are."
        )
    else:
        reason = (
            f"The files of {quoted(question.model)} were changed and their times set back, so what it names is not "
            "known: copy the model to another place and scan it there."
        )
    return Gate(allow=False, outcome="closed", decided_under=policy.name, reason=reason)


def _no_report(session: Session, policy: Policy, digest: str) -> Gate:
    return gate(None, None, policy, subject_digest=digest, now=now(session))


def _answers(
    session: Session, blobs: Blobs, question: Question, policy: Policy, digest: str, base: Pinned | str | None
) -> Iterator[Gate]:
    """The answer by each report on contents, the newest first."""
    scans, at = _scans(session, digest), now(session)
    base_digest = None if base is None else _base_digest(scans, base)
    latest: dict[tuple[str, str], Row[Any]] = {}
    for scan in scans:
        latest.setdefault((scan.report_digest, scan.base_digest), scan)
    for scan in latest.values():
        report = read_report(blobs, scan.report_digest)
        facts = ReportFacts(
            scan_id=scan.id,
            created=moment(scan.ended),
            suite=report.suite,
            scanner_version=report.scanner_version,
            subject_digest=digest,
            base_digest=scan.base_digest,
            report_digest=scan.report_digest,
        )
        yield gate(
            facts,
            decision_on(session, report, policy),
            policy,
            subject_digest=digest,
            now=at,
            base_digest=base_digest,
            max_age=question.max_age,
        )


def _scans(session: Session, digest: str) -> Sequence[Row[Any]]:
    """Scans with a report on the contents that files with this digest hold, the newest first."""
    contents = select(Scan.subject_content).where(Scan.subject_digest == digest)
    columns = select(Scan.id, Scan.ended, Scan.report_digest, Scan.base_digest, Scan.base_pin)
    reported = (Scan.state == "succeeded", Scan.report_digest.is_not(None), Scan.subject_content.in_(contents))
    return session.execute(columns.where(*reported).order_by(Scan.ended.desc(), Scan.id)).all()


def _base_digest(scans: Sequence[Row[Any]], base: Pinned | str) -> str:
    """Digest of the base that is asked for, as a scan read it; where none did, what tells it from those that were."""
    if isinstance(base, str):
        return base
    pin = (base.pinned, base.revision)
    read = (scan.base_digest for scan in scans if scan.base_pin and _pin(scan.base_pin) == pin)
    return next(read, base.revision)


def _pin(pin: dict[str, Any]) -> tuple[str, str]:
    return pin["pinned"], pin["revision"]


def _rank(answer: Gate) -> tuple[int, int]:
    """The gravest answer first; of equals `min` takes the first, which is the newest."""
    if answer.outcome == "fail" and answer.verdict in GRAVE:
        return 0, VERDICTS.index(answer.verdict)
    if answer.allow:
        return 1, answer.outcome != "warn"
    return 2, 0


def _unfinished(session: Session, question: Question, model: Pinned | str) -> tuple[State, str] | None:
    """State and id of the newest scan of a model that has not ended."""
    same: ColumnElement[bool] = Scan.subject_digest == model
    if isinstance(model, Pinned):
        same = or_(Scan.model == question.model, Scan.subject_revision == model.revision)
    newest = select(Scan.state, Scan.id).where(same, Scan.state.not_in(ENDED)).order_by(Scan.created.desc(), Scan.id)
    row = session.execute(newest.limit(1)).one_or_none()
    return (row.state, row.id) if row else None
