"""Stored results: what one scan of one member said and cost, under the member, the suite and the code that made it.

A member that has a result is not scanned again until a file changes that influences results. Observations are kept
apart, so a changed statistic scores the zoo again without asking a model anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field

from app.core.files import write_atomically
from detectors.findings import Plain
from detectors.report import Report

ROOT = Path(__file__).parents[2]
SOURCES = ("detectors", "workers", "benchmarks/detection/baselines.py")
"""What influences results; commits elsewhere leave them valid."""
SHORT = 16
"""Digits of a digest that name a file, or a member's directory."""

Stored = TypeVar("Stored", bound=BaseModel)


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


class Result(Plain):
    """One scan of one member.

    Attributes:
        member: digest of the member.
        code: digest of the sources, see `code_version`.
        report: what the scan said; None where it could not be finished.
        error: why it could not.
        baselines: scores of simpler methods by name, higher is more suspicious.
        cost: of the scan that observed most: scoring again from stored observations costs nearly nothing.
    """

    member: str
    suite: str
    suite_digest: str
    code: str
    report: Report | None = None
    error: str = ""
    baselines: dict[str, float] = Field(default_factory=dict)
    cost: Cost


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
    """Where results are stored; made when missing."""
    directory = cache_dir / "detection"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def write_result(result: Result, directory: Path) -> Result:
    """Stores a result, with the cost of the dearest scan of this member by this suite; returns what was stored."""
    files = directory.glob(_name(result.member, result.suite_digest, "*"))
    earlier = [Cost.model_validate(json.loads(file.read_bytes())["cost"]) for file in files]  # by any code, any report
    dearest = max([result.cost, *earlier], key=lambda cost: cost.tokens)
    kept = result.model_copy(update={"cost": dearest})
    _write(kept, directory / _name(result.member, result.suite_digest, result.code))
    return kept


def read_results(directory: Path, suite_digest: str, code: str) -> dict[str, Result]:
    """Results by the digest of their member."""
    return {it.member: it for it in _read(Result, directory, _name("*", suite_digest, code))}


def write_peer_result(result: PeerResult, directory: Path) -> None:
    """Stores what a peer said."""
    _write(result, directory / _peer_name(result.peer, result.version, result.member))


def read_peer_results(directory: Path, peer: str, version: str) -> dict[str, PeerResult]:
    """What a version of a peer said, by the digest of the member."""
    return {it.member: it for it in _read(PeerResult, directory, _peer_name(peer, version, "*"))}


def _name(member: str, suite_digest: str, code: str) -> str:
    return f"scan-{member[:SHORT]}-{suite_digest[:SHORT]}-{code[:SHORT]}.json"


def _peer_name(peer: str, version: str, member: str) -> str:
    return f"peer-{peer}-{version}-{member[:SHORT]}.json"


def _write(stored: BaseModel, path: Path) -> None:
    write_atomically(path, stored.model_dump_json())


def _read(kind: type[Stored], directory: Path, pattern: str) -> list[Stored]:
    return [kind.model_validate_json(file.read_bytes()) for file in sorted(directory.glob(pattern))]
