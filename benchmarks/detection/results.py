"""Stored results: what the page needs of each scan of a member and of each run of a peer, kept in the repository.

A scan of the zoo takes longer than anybody's patience, so results gather over days and machines: a member has one
result a suite, the newest, with the code version that made it. One by this version is not measured again. Reports are
too large to keep; they lie below the cache, beside the observations, which score the zoo again without asking a model
anything when a statistic changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import BaseModel, Field

from app.core.files import write_atomically
from benchmarks.detection import recovery
from benchmarks.organisms.manifest import Member
from detectors.findings import Plain
from detectors.report import Report, Verdict, decide_report
from detectors.suites import Suite

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_name("stored")
PEERS_FILE = "peers.jsonl"
SOURCES = ("detectors", "workers", "benchmarks/detection/baselines.py")
"""What influences results; commits elsewhere leave them valid."""
SCAN = "the scan"

Row = TypeVar("Row", bound=BaseModel)


class Cost(Plain):
    """What observing a member took, the base's share included.

    Attributes:
        seconds: wall time of the scan, without baselines.
        tokens: read and generated.
        peak_bytes: resident memory of the largest of the scan's processes.
    """

    seconds: float
    tokens: int
    peak_bytes: int


class Measured(Plain):
    """One scan of one member, before it is known what was planted.

    Attributes:
        report: what the scan said; None where it could not be finished.
        error: why it could not.
        baselines: scores of simpler methods by name, higher is more suspicious.
    """

    report: Report | None = None
    error: str = ""
    baselines: dict[str, float] = Field(default_factory=dict)
    cost: Cost


class Finding(Plain):
    """The first finding of a report: its code, and the trigger it names."""

    code: str
    trigger: str


class Said(Plain):
    """What a report says, held against what was planted.

    Attributes:
        created: when, ISO 8601.
        machine: processor and dtype.
        verdict: under the default policy.
        scores: the scan's overall score, the largest value of each statistic, and the baselines; higher is more
            suspicious.
        unfinished: outcomes of detectors that were not completed, by name.
        finding: the first one, where there is any.
        reached: whether each stage had a planted trigger before it; empty for a member without a fixed one.
        works, exact, target: whether a trigger was confirmed, a planted one, and one that releases the planted target.
    """

    created: str
    machine: str
    verdict: Verdict
    scores: dict[str, float]
    unfinished: dict[str, str]
    finding: Finding | None
    reached: dict[str, bool]
    works: bool
    exact: bool
    target: bool


class Result(Plain):
    """The result of one member by one suite.

    Attributes:
        member: digest of the member.
        name: what it is called; for readers of the file.
        code: digest of the sources, see `code_version`.
        said: None where the scan could not be finished.
        error: why it could not.
        cost: of the scan that observed most: scoring again from stored observations costs nearly nothing.
    """

    member: str
    name: str
    suite: str
    suite_digest: str
    code: str
    said: Said | None = None
    error: str = ""
    cost: Cost

    def by(self, suite: Suite, code: str) -> bool:
        """Whether this suite and this code have finished the scan."""
        return self.said is not None and (self.suite_digest, self.code) == (suite.digest(), code)


class PeerResult(Plain):
    """What a peer made of one member.

    Attributes:
        score: higher is more suspicious; None where it failed.
        error: why it failed.
    """

    member: str
    peer: str
    version: str
    score: float | None = None
    error: str = ""
    seconds: float


def judged(member: Member, suite: Suite, measured: Measured) -> Result:
    """A scan held against the labels of its member."""
    return Result(
        member=member.digest,
        name=member.name,
        suite=suite.name,
        suite_digest=suite.digest(),
        code=code_version(),
        said=_said(member, measured.report, measured.baselines) if measured.report else None,
        error=measured.error,
        cost=measured.cost,
    )


def _said(member: Member, report: Report, baselines: dict[str, float]) -> Said:
    best = report.findings[0] if report.findings else None
    return Said(
        created=report.created,
        machine=f"{report.machine.processor}, {report.machine.dtype}",
        verdict=decide_report(report).verdict,
        scores={name: round(value, 5) for name, value in (_scores(report) | baselines).items()},
        unfinished={name: outcome for name, outcome in report.outcomes().items() if outcome != "completed"},
        finding=Finding(code=best.code, trigger=best.trigger) if best else None,
        reached=recovery.reached(report, member.triggers) if member.triggers else {},
        works=recovery.works(report),
        exact=recovery.exact(report, member),
        target=recovery.target_recovered(report, member),
    )


def _scores(report: Report) -> dict[str, float]:
    found = {SCAN: report.score}
    for result in report.results:
        for evidence in result.evidence:
            found[evidence.statistic] = max(evidence.value, found.get(evidence.statistic, evidence.value))
    return found


@cache
def code_version(root: Path = ROOT) -> str:
    """SHA-256 over the sources that influence results, their names and their contents."""
    digest = hashlib.sha256()
    for file in sorted(_sources(root)):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _sources(root: Path) -> Iterable[Path]:
    for name in SOURCES:
        path = root / name
        found = [path] if path.is_file() else path.rglob("*")
        yield from (file for file in found if file.suffix in (".py", ".json"))


def results_dir(cache_dir: Path) -> Path:
    """Where observations and reports lie; made when missing."""
    directory = cache_dir / "detection"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def keep_result(result: Result, directory: Path = STORED) -> Result:
    """Replaces what is stored of this member by this suite; returns what is stored now.

    Its cost is that of the dearest scan of them all: one that found its observations in the store cost nearly nothing,
    and a suite that changed a little finds most of them.
    """

    def dearest(before: Result | None) -> Result:
        known = [before.cost] if before else []
        return result.model_copy(update={"cost": max([result.cost, *known], key=lambda cost: cost.tokens)})

    return _replace(directory / f"{result.suite}.jsonl", Result, result.member, dearest, lambda it: it.member)


def read_results(suite: str, directory: Path = STORED) -> dict[str, Result]:
    """Results of a suite by the digest of their member."""
    return {it.member: it for it in _read(directory / f"{suite}.jsonl", Result)}


def keep_peer_result(result: PeerResult, directory: Path = STORED) -> None:
    """Replaces what is stored of this member by this version of this peer."""
    _replace(directory / PEERS_FILE, PeerResult, _peer_key(result), lambda before: result, _peer_key)


def read_peer_results(peer: str, version: str, directory: Path = STORED) -> dict[str, PeerResult]:
    """What a version of a peer said, by the digest of the member."""
    stored = _read(directory / PEERS_FILE, PeerResult)
    return {it.member: it for it in stored if (it.peer, it.version) == (peer, version)}


def _peer_key(result: PeerResult) -> str:
    return f"{result.peer} {result.version} {result.member}"


def _replace(
    file: Path, kind: type[Row], key: str, made: Callable[[Row | None], Row], key_of: Callable[[Row], str]
) -> Row:
    """Puts one row into a file of rows, sorted by their keys; several processes may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        rows = {key_of(row): row for row in _read(file, kind)}
        rows[key] = made(rows.get(key))
        write_atomically(file, "".join(f"{_line(rows[at])}\n" for at in sorted(rows)))
        return rows[key]


def _line(row: BaseModel) -> str:
    document: dict[str, Any] = row.model_dump(mode="json")
    return json.dumps(document, ensure_ascii=True)


def _read(file: Path, kind: type[Row]) -> list[Row]:
    if not file.exists():
        return []
    return [kind.model_validate_json(line) for line in file.read_text().splitlines()]
