from __future__ import annotations

from pathlib import Path

from benchmarks.detection.results import (
    Cost,
    Measured,
    PeerResult,
    Result,
    code_version,
    judged,
    keep_peer_result,
    keep_result,
    read_peer_results,
    read_results,
)
from detectors.suites import QUICK, STANDARD, Suite
from tests.benchmarks.made import confirmation, found, member, report


def result(name: str = "amber", tokens: int = 10, suite: Suite = QUICK) -> Result:
    cost = Cost(seconds=float(tokens), tokens=tokens, peak_bytes=tokens)
    return judged(member(name), suite, Measured(report=found(), cost=cost))


def test_a_member_has_one_result_a_suite(tmp_path: Path) -> None:
    one, two, deeper = result("one"), result("two"), result("one", suite=STANDARD)
    for it in (two, one, one, deeper):
        keep_result(it, tmp_path)
    assert read_results("quick", tmp_path) == {one.member: one, two.member: two}
    assert read_results("standard", tmp_path) == {one.member: deeper}
    assert read_results("deep", tmp_path) == {}
    assert len((tmp_path / "quick.jsonl").read_text().splitlines()) == 2


def test_a_result_is_of_one_suite_and_one_code() -> None:
    assert result().by(QUICK, code_version())
    assert not result().by(QUICK, "e" * 64)
    assert not result().by(STANDARD, code_version())
    broken = judged(member(), QUICK, Measured(error="it broke", cost=result().cost))
    assert not broken.by(QUICK, code_version())


def test_what_a_report_says_is_held_against_what_was_planted() -> None:
    said = judged(member(), QUICK, Measured(report=found(), baselines={"random": 0.25}, cost=result().cost)).said
    assert said is not None
    assert (said.verdict, said.works, said.exact, said.target) == ("strong_evidence", True, True, True)
    assert all(said.reached.values())
    assert said.finding is not None
    assert said.finding.trigger == "zq"
    assert said.scores["random"] == 0.25
    unsure = report(searched=["aa"], confirmations=[confirmation("aa", p_holm=0.5)])
    said = judged(member(), QUICK, Measured(report=unsure, cost=result().cost)).said
    assert said is not None
    assert (said.verdict, said.works, said.finding) == ("no_evidence", False, None)
    assert said.reached["swept"]
    assert not said.reached["nominated"]


def test_scoring_again_from_the_store_keeps_the_cost_of_observing(tmp_path: Path) -> None:
    keep_result(result(tokens=500), tmp_path)
    again = keep_result(result(tokens=0), tmp_path)
    assert again.cost.tokens == 500
    assert keep_result(result("other", tokens=7), tmp_path).cost.tokens == 7
    changed = result(tokens=1).model_copy(update={"suite_digest": "6" * 64})
    assert keep_result(changed, tmp_path).cost.tokens == 500


def test_peers_are_read_by_name_and_version(tmp_path: Path) -> None:
    said = PeerResult(member="a" * 64, peer="some", version="1.0", error="it broke", seconds=1.0)
    keep_peer_result(said, tmp_path)
    keep_peer_result(said, tmp_path)
    assert read_peer_results("some", "1.0", tmp_path) == {"a" * 64: said}
    assert read_peer_results("some", "2.0", tmp_path) == {}


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
