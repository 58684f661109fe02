"""A report as an in-toto Statement (v1) with the test-result predicate (v0.1): what is signed and verified.

    https://github.com/in-toto/attestation: spec/v1/statement.md, spec/predicates/test-result.md

Subjects are the scanned model by both of its digests, for verifiers match by digest alone. The predicate has three
results for our four verdicts: an inconclusive scan is `FAILED`, never `PASSED`, and the verdict in full stands in the
annotations of the descriptor `scan`. A check that was not evaluated is among `failedTests`.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from app.core.render.checks import Check, State, checks
from app.core.render.visible import visible
from detectors.errors import StatementError
from detectors.report import VERDICTS, Decision, ModelCard, Report, Verdict

StatementType = Literal["https://in-toto.io/Statement/v1"]
PredicateType = Literal["https://in-toto.io/attestation/test-result/v0.1"]
STATEMENT_TYPE: StatementType = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: PredicateType = "https://in-toto.io/attestation/test-result/v0.1"

Result = Literal["PASSED", "WARNED", "FAILED"]
RESULTS: dict[Verdict, Result] = {
    "no_evidence": "PASSED",
    "suspicious": "WARNED",
    "strong_evidence": "FAILED",
    "inconclusive": "FAILED",
}
"""What each verdict is called by the predicate."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REASON_LIMIT = 600


class _Field(BaseModel):
    """Unknown fields are ignored, as the specification's parsing rules want."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True)


class ResourceDescriptor(_Field):
    """A thing by its digest."""

    name: str = ""
    digest: dict[str, str] = Field(min_length=1)
    annotations: dict[str, Any] = {}


class Predicate(_Field):
    """The result of a test run, with the names of its tests."""

    result: Result
    configuration: tuple[ResourceDescriptor, ...]
    passed_tests: tuple[str, ...] = ()
    warned_tests: tuple[str, ...] = ()
    failed_tests: tuple[str, ...] = ()


class Statement(_Field):
    """What was scanned, how, and with what verdict."""

    type: StatementType = Field(STATEMENT_TYPE, alias="_type")
    subject: tuple[ResourceDescriptor, ...] = Field(min_length=1)
    predicate_type: PredicateType = PREDICATE_TYPE
    predicate: Predicate

    @property
    def scan(self) -> dict[str, Any]:
        """What the descriptor `scan` says: verdict, reason, policy, suite, time."""
        return next((it.annotations for it in self.predicate.configuration if it.name == "scan"), {})

    @property
    def verdict(self) -> Verdict:
        """The verdict in full, of which the predicate's result is the short form."""
        return cast(Verdict, self.scan["verdict"])

    @model_validator(mode="after")
    def _one_story(self) -> Self:
        """A statement with another result than its verdict, or with none, is not one of a scan."""
        verdict = self.scan.get("verdict")
        if verdict not in VERDICTS or RESULTS[verdict] != self.predicate.result:
            raise ValueError(
                f"its scan must name the verdict that is {self.predicate.result}, got {ascii(verdict)[:40]}"
            )
        return self


def build_statement(report: Report, decision: Decision) -> Statement:
    """What a scan attests.

    Raises:
        StatementError: if a digest of the report is no SHA-256.
    """
    found = [(_test_name(check), check.state) for check in checks(report, decision)]

    def named(*states: State) -> tuple[str, ...]:
        return tuple(name for name, state in found if state in states)

    return Statement(
        subject=_model(report.subject),
        predicate=Predicate(
            result=RESULTS[decision.verdict],
            configuration=(_scan(report, decision), _suite(report), *_model(report.base, "base ")),
            passed_tests=named("passed"),
            warned_tests=named("warned", "suppressed"),
            failed_tests=named("failed", "error", "skipped"),
        ),
    )


def render_statement(report: Report, decision: Decision) -> str:
    """The report as an unsigned in-toto Statement in JSON.

    Raises:
        StatementError: if a digest of the report is no SHA-256.
    """
    return build_statement(report, decision).model_dump_json(by_alias=True)


def sha256_of(digest: str) -> str:
    """A digest as in-toto writes it: 64 lower-case digits, without `sha256:`.

    Raises:
        StatementError: if it is no SHA-256.
    """
    plain = digest.removeprefix("sha256:").lower()
    if not _SHA256.fullmatch(plain):
        raise StatementError(
            f"a digest must be a SHA-256 in 64 hexadecimal digits, got {visible(digest, 80)!r}; copy it from a report"
        )
    return plain


def _model(card: ModelCard, role: str = "") -> tuple[ResourceDescriptor, ResourceDescriptor]:
    name = f"{role}{visible(card.reference)}"
    return _descriptor(name, card.file_digest), _descriptor(f"{name}#content", card.content_digest)


def _scan(report: Report, decision: Decision) -> ResourceDescriptor:
    return _descriptor(
        "scan",
        report.scan_id,
        verdict=decision.verdict,
        reason=visible(decision.reason, _REASON_LIMIT),
        policy=visible(decision.policy),
        suite=visible(f"{report.suite} {report.suite_version}"),
        created=visible(report.created, 40),
        scannerVersion=visible(report.scanner_version, 40),
    )


def _suite(report: Report) -> ResourceDescriptor:
    return _descriptor(f"suite {visible(report.suite)}", report.suite_digest, version=visible(report.suite_version))


def _descriptor(name: str, digest: str, **annotations: str) -> ResourceDescriptor:
    return ResourceDescriptor(name=name, digest={"sha256": sha256_of(digest)}, annotations=annotations)


def _test_name(check: Check) -> str:
    return check.name if check.group == "verdict" else f"{check.group} {check.name}"
