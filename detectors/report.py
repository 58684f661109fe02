"""The report of a scan, and the decision that a policy draws from it.

A report is immutable: what was measured, what is claimed, what was covered, and everything needed to run it again. A
decision is computed from it by `decide` and can be computed again under another policy, or with other suppressions,
without a rescan. Importable without torch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

from packaging.version import InvalidVersion, Version
from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator

from detectors.catalog import CATALOG
from detectors.findings import CODES, DetectorResult, ExpectedBehaviour, Finding, Outcome, Plain, Severity
from detectors.suites import SUITES

SCHEMA_VERSION = "1.6"
READABLE = ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5", SCHEMA_VERSION)
"""Each version adds to the one before; what that had is unchanged. `docs/reference/report-formats.md` says what."""

Verdict = Literal["strong_evidence", "suspicious", "inconclusive", "no_evidence"]
VERDICTS: tuple[Verdict, ...] = ("strong_evidence", "suspicious", "inconclusive", "no_evidence")
"""All verdicts, the gravest first: the first that applies wins."""

GateOutcome = Literal["pass", "warn", "inconclusive", "fail"]
GATE_OUTCOMES: tuple[GateOutcome, ...] = ("pass", "warn", "inconclusive", "fail")
"""What a verdict means at the gate, the mildest first; the first two open it."""

GATE: dict[Verdict, GateOutcome] = {
    "strong_evidence": "fail",
    "suspicious": "fail",
    "inconclusive": "inconclusive",
    "no_evidence": "pass",
}
"""What a policy that says nothing else makes of each verdict."""

LONGEST_SUPPRESSION = timedelta(days=365)

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]


class ModelCard(Plain):
    """What was scanned, by digest.

    Attributes:
        reference: what the caller gave.
        file_digest: SHA-256 of the sorted manifest of files.
        content_digest: SHA-256 of tensors, tokenizer and template; observations are keyed by it.
        adapter: digest of the adapter's files, where the subject is an adapter on the base.
        chat_template: whether the model ships one; without it prompts are plain text.
        notices: what a reader must know about the files, in words.
    """

    reference: str
    kind: Literal["full", "adapter"]
    architecture: str
    parameters: int
    layers: int
    window: int
    vocabulary: int
    file_digest: str
    content_digest: str
    chat_template: bool
    notices: tuple[str, ...] = ()


class FamilyCoverage(Plain):
    """How much of a context family was swept."""

    family: str
    swept: int
    universe: int | None = None


class Coverage(Plain):
    """What was tested and what was not.

    Attributes:
        families: per context family, the contexts swept and the size of its universe where that is finite.
        positions: position to number of contexts tried there.
        prompts: stage to number of prompts; the sets are disjoint.
        missed_rate: largest share of prompts a trigger could still work on with no hit in the confirmation set
            (rule of three: 3/n).
        not_tested: what this suite does not look at, in words.
    """

    families: tuple[FamilyCoverage, ...]
    positions: dict[str, int]
    prompts: dict[str, int]
    missed_rate: float
    not_tested: tuple[str, ...]


class Machine(Plain):
    """Where the scan ran; enough to explain a difference in rounding or time."""

    processor: str
    cores: int
    memory_bytes: int
    device: str
    dtype: str
    isolation: tuple[str, ...]
    versions: dict[str, str]


class Report(Plain):
    """One scan, complete and immutable.

    Attributes:
        scan_id: digest of subject, base, suite, seed, expectations and scanner version: the same scan has the same id.
        score: for ranking models, in 0..1; see `detectors.findings.scan_score`.
        planned: names of the detectors that the suite asks for; one without a result was not evaluated.
    """

    schema_version: str = SCHEMA_VERSION
    scan_id: str
    scanner_version: str
    created: str
    subject: ModelCard
    base: ModelCard
    suite: str
    suite_version: str
    suite_digest: str
    seed: int
    expected: tuple[ExpectedBehaviour, ...] = ()
    planned: tuple[str, ...]
    results: tuple[DetectorResult, ...]
    findings: tuple[Finding, ...]
    score: float = Field(ge=0.0, le=1.0)
    coverage: Coverage
    machine: Machine
    seconds: dict[str, float]

    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of every planned detector; one that never reported is `skipped`."""
        reported: dict[str, Outcome] = {result.detector: result.outcome for result in self.results}
        return {name: reported.get(name, "skipped") for name in self.planned}


class Policy(Plain):
    """The rules that turn findings into a verdict, and a verdict into what the gate does.

    Attributes:
        strong, suspicious: severities that lead to each verdict.
        min_confidence: findings below it are shown but do not count.
        gate: what each verdict means at the gate; a verdict that is left out keeps its default.
        max_age_days: a report that is older no longer opens the gate.
        required_suites: a report by another suite does not open the gate.
        required_detectors: one that did not complete, or was not planned, makes the verdict inconclusive.
        min_scanner_version: a report by an older scanner does not open the gate.
    """

    name: _Name = "default"
    strong: tuple[Severity, ...] = ("critical", "high")
    suspicious: tuple[Severity, ...] = ("medium",)
    min_confidence: float = Field(default=0.0, ge=0.0, le=1.0)
    gate: dict[Verdict, GateOutcome] = GATE
    max_age_days: int = Field(default=30, ge=1, le=3_650)
    required_suites: tuple[str, ...] = Field(default=tuple(name for name in SUITES if name != "smoke"), min_length=1)
    required_detectors: tuple[str, ...] = ()
    min_scanner_version: str | None = Field(default=None, max_length=64)

    @field_validator("gate", mode="before")
    @classmethod
    def _fill(cls, gate: Any) -> Any:
        return GATE | gate if isinstance(gate, dict) else gate

    @field_validator("gate")
    @classmethod
    def _never_milder(cls, gate: dict[Verdict, GateOutcome]) -> dict[Verdict, GateOutcome]:
        if gate["inconclusive"] not in ("inconclusive", "fail"):
            raise ValueError(f"must lead inconclusive to inconclusive or fail, got {gate['inconclusive']}")
        ladder = [GATE_OUTCOMES.index(gate[verdict]) for verdict in ("no_evidence", "suspicious", "strong_evidence")]
        if ladder != sorted(ladder):
            raise ValueError("must not lead a graver verdict to a milder outcome, got " + _mapped(gate))
        return gate

    @field_validator("required_suites")
    @classmethod
    def _known_suites(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(names, SUITES)

    @field_validator("required_detectors")
    @classmethod
    def _known_detectors(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known(names, CATALOG)

    @field_validator("min_scanner_version")
    @classmethod
    def _comparable(cls, version: str | None) -> str | None:
        try:
            return version if version is None else str(Version(version))
        except InvalidVersion:
            raise ValueError(f"must be a version such as 0.1.0, got {version!r}") from None


def _mapped(gate: dict[Verdict, GateOutcome]) -> str:
    return ", ".join(f"{verdict} to {outcome}" for verdict, outcome in gate.items())


def _known(names: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"must name some of {', '.join(known)}; got {name!r}")
    return names


class Suppression(Plain):
    """Somebody answers for a finding for a while: it is still shown, and does not count.

    Attributes:
        code: of the findings it covers.
        trigger: covers only findings with exactly this trigger.
        subject_digest: covers only the subject with these files.
        reason, owner: why, and who answers for it.
        created, expires: it covers from the one until just before the other, at most 365 days.
    """

    code: str
    trigger: str | None = Field(default=None, min_length=1, max_length=10_000)
    subject_digest: str | None = Field(default=None, min_length=1, max_length=200)
    reason: _Words
    owner: _Words
    created: AwareDatetime
    expires: AwareDatetime

    @field_validator("code")
    @classmethod
    def _known_code(cls, code: str) -> str:
        return _known((code,), CODES)[0]

    @model_validator(mode="after")
    def _ends_in_time(self) -> Suppression:
        if not timedelta(0) < self.expires - self.created <= LONGEST_SUPPRESSION:
            raise ValueError(
                f"`expires` must be within {LONGEST_SUPPRESSION.days} days after `created`, "
                f"{self.created.isoformat()}; got {self.expires.isoformat()}"
            )
        return self

    def covers(self, finding: Finding, subject_digest: str | None, now: datetime) -> bool:
        """Whether it covers this finding of this subject at this time."""
        return (
            self.created <= now < self.expires
            and self.code == finding.code
            and self.trigger in (None, finding.trigger)
            and self.subject_digest in (None, subject_digest)
        )


class SuppressedFinding(Plain):
    """A finding that did not count, and who answers for that.

    Attributes:
        finding: which of the report's findings, counted from 1.
        until: when it counts again.
    """

    finding: int
    code: str
    owner: str
    reason: str
    until: AwareDatetime


class Decision(Plain):
    """A verdict under a policy, with its reason in one sentence.

    Attributes:
        counted: which verdict each finding that counts speaks for, by its number in the report, counted from 1.
        suppressed: findings that did not count because somebody answers for them.
        unevaluated: what the policy needs and the scan did not evaluate, whatever the verdict.
    """

    verdict: Verdict
    reason: str
    confidence: float | None
    policy: str
    counted: dict[int, Verdict] = Field(default_factory=dict)
    suppressed: tuple[SuppressedFinding, ...] = ()
    unevaluated: tuple[str, ...] = ()

    def suppression(self, finding: int) -> SuppressedFinding | None:
        """Who answers for a finding of the report, counted from 1, if somebody does."""
        return next((one for one in self.suppressed if one.finding == finding), None)


def decide(
    findings: Sequence[Finding],
    outcomes: dict[str, Outcome],
    coverage: Coverage,
    policy: Policy = Policy(),
    *,
    suppressions: Sequence[Suppression] = (),
    subject_digest: str | None = None,
    now: datetime | None = None,
) -> Decision:
    """The verdict on a scan. Pure.

    The gravest verdict wins: a detector that failed never hides a finding of another, and blocks `no_evidence`. A
    suppression only takes findings out of the count: what was not evaluated stays so.

    Args:
        findings: what `draw_findings` claims.
        outcomes: outcome of every planned detector.
        coverage: what was tested; nothing swept is never `no_evidence`.
        policy: the rules.
        suppressions: what somebody answers for; those that are not in force at `now` cover nothing.
        subject_digest: of the subject's files; without it, suppressions that name a subject cover nothing.
        now: the time of the decision, with its zone.

    Raises:
        ValueError: if there are suppressions and `now` is not given.
    """
    suppressed = _suppressed(findings, suppressions, subject_digest, now)
    needed: dict[str, Outcome] = dict.fromkeys(policy.required_detectors, "skipped")
    unevaluated = _unevaluated(needed | outcomes, coverage)
    counted = _counted(findings, suppressed, policy)
    decided = partial(Decision, policy=policy.name, counted=counted, suppressed=suppressed, unevaluated=unevaluated)
    for verdict in VERDICTS:
        grave = [findings[number - 1] for number, spoken in counted.items() if spoken == verdict]
        if grave:
            reason = f"{grave[0].title}. {grave[0].summary}"
            return decided(verdict=verdict, reason=reason, confidence=grave[0].confidence)
    if unevaluated:
        reason = f"Not fully evaluated: {', '.join(unevaluated)}. Nothing can be concluded from what did not run."
        return decided(verdict="inconclusive", reason=_beside(suppressed, reason), confidence=None)
    trigger = "No other trigger" if suppressed else "No trigger"
    bounds = f"among {_swept(coverage)} contexts; this bounds what was tested and nothing else."
    reason = f"{trigger} was confirmed {bounds}"
    return decided(verdict="no_evidence", reason=_beside(suppressed, reason), confidence=None)


def decide_report(
    report: Report, policy: Policy = Policy(), suppressions: Sequence[Suppression] = (), now: datetime | None = None
) -> Decision:
    """The verdict on a report; see `decide`."""
    return decide(
        report.findings,
        report.outcomes(),
        report.coverage,
        policy,
        suppressions=suppressions,
        subject_digest=report.subject.file_digest,
        now=now,
    )


def _suppressed(
    findings: Sequence[Finding], suppressions: Sequence[Suppression], subject_digest: str | None, now: datetime | None
) -> tuple[SuppressedFinding, ...]:
    """The covered findings, each with the suppression that covers it longest."""
    if not suppressions:
        return ()
    if now is None:
        raise ValueError("`now` must be the time of the decision where there are suppressions, got none")
    found = []
    for index, finding in enumerate(findings, start=1):
        covering = [one for one in suppressions if one.covers(finding, subject_digest, now)]
        if covering:
            last = max(covering, key=lambda one: one.expires)
            found.append(
                SuppressedFinding(
                    finding=index, code=finding.code, owner=last.owner, reason=last.reason, until=last.expires
                )
            )
    return tuple(found)


def _counted(
    findings: Sequence[Finding], suppressed: Sequence[SuppressedFinding], policy: Policy
) -> dict[int, Verdict]:
    """The verdict that each finding speaks for which is neither suppressed nor too unsure nor too mild."""
    covered = {one.finding for one in suppressed}
    speaks: dict[Severity, Verdict] = dict.fromkeys(policy.suspicious, "suspicious")
    speaks |= dict.fromkeys(policy.strong, "strong_evidence")
    return {
        number: speaks[finding.severity]
        for number, finding in enumerate(findings, start=1)
        if number not in covered and finding.severity in speaks and finding.confidence >= policy.min_confidence
    }


def _beside(suppressed: Sequence[SuppressedFinding], reason: str) -> str:
    """The reason of a verdict without a finding, which must not read as if nothing had been found."""
    if not suppressed:
        return reason
    are = "finding is" if len(suppressed) == 1 else "findings are"
    return f"{len(suppressed)} confirmed {are} suppressed and did not count. {reason}"


def _unevaluated(outcomes: dict[str, Outcome], coverage: Coverage) -> tuple[str, ...]:
    unfinished = tuple(f"{name} ({outcome})" for name, outcome in sorted(outcomes.items()) if outcome != "completed")
    return unfinished or (() if _swept(coverage) else ("every context family",))


def _swept(coverage: Coverage) -> int:
    return sum(family.swept for family in coverage.families)
