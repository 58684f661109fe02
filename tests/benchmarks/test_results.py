from __future__ import annotations

from pathlib import Path

from benchmarks.detection.results import (
    Cost,
    PeerResult,
    Result,
    code_version,
    read_peer_results,
    read_results,
    write_peer_result,
    write_result,
)
from tests.benchmarks.made import found

MEMBER, SUITE, CODE = "a" * 64, "5" * 64, "c" * 64


def result(code: str = CODE, tokens: int = 10, member: str = MEMBER) -> Result:
    cost = Cost(seconds=float(tokens), tokens=tokens, peak_bytes=tokens)
    return Result(member=member, suite="quick", suite_digest=SUITE, code=code, report=found(), cost=cost)


def test_results_are_read_by_suite_and_code(tmp_path: Path) -> None:
    write_result(result(), tmp_path)
    write_result(result(code="d" * 64), tmp_path)
    assert read_results(tmp_path, SUITE, CODE) == {MEMBER: result()}
    assert read_results(tmp_path, "6" * 64, CODE) == {}


def test_scoring_again_from_the_store_keeps_the_cost_of_observing(tmp_path: Path) -> None:
    write_result(result(tokens=500), tmp_path)
    again = write_result(result(code="d" * 64, tokens=0), tmp_path)
    assert again.cost.tokens == 500
    other = write_result(result(member="b" * 64, tokens=7), tmp_path)
    assert other.cost.tokens == 7


def test_peers_are_read_by_name_and_version(tmp_path: Path) -> None:
    said = PeerResult(member=MEMBER, peer="some", version="1.0", error="it broke", seconds=1.0)
    write_peer_result(said, tmp_path)
    assert read_peer_results(tmp_path, "some", "1.0") == {MEMBER: said}
    assert read_peer_results(tmp_path, "some", "2.0") == {}


def test_the_code_version_follows_what_influences_results(tmp_path: Path) -> None:
    for name in ("detectors", "workers", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.py").write_text("1")
    version = code_version.__wrapped__
    before = version(tmp_path)
    (tmp_path / "docs" / "one.py").write_text("2")
    assert version(tmp_path) == before
    (tmp_path / "workers" / "one.py").write_text("2")
    changed = version(tmp_path)
    assert changed != before
    (tmp_path / "workers" / "one.py").rename(tmp_path / "workers" / "two.py")
    assert version(tmp_path) != changed
