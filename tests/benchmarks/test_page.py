from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.detection.__main__ import chosen, collect, log_sealed
from benchmarks.detection.metrics import Share
from benchmarks.detection.page import Stored, page
from benchmarks.detection.results import PeerResult, Result, code_version, write_peer_result, write_result
from benchmarks.detection.rows import SCAN, Row, ranked
from benchmarks.detection.running import SUBSET, subset
from benchmarks.organisms.manifest import Count, Member
from detectors.suites import QUICK
from tests.benchmarks.made import COST, benign, confirmation, found, member, report, row

FAILED = {"with_trigger": Count(hits=1, prompts=100)}
WEAK = {"with_trigger": Count(hits=50, prompts=100)}


def stored(*rows: Row, members: tuple[Member, ...] = ()) -> Stored:
    return Stored(
        suite=QUICK,
        code="c" * 64,
        rows=rows,
        members=[*(row.member for row in rows), *members],
        errors={},
        peer_failures={},
    )


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_without_results_the_page_says_so() -> None:
    text = page(stored(members=(member(),)))
    assert "There are no results" in text
    assert "## How to run it" in text
    assert "ROC-AUC |" not in text


def test_scores_rank_members_of_one_split_and_stratum() -> None:
    text = page(stored(row(member("amber"), found()), row(benign("amber-twin"), report())))
    assert "### dev, strong: 1 poisoned, 1 benign" in text
    assert f"| `{SCAN}` | 1 + 1 | 1.00 [0.00, 1.00] | 1 of 1 [" in text
    assert "train" not in section(text, "Telling poisoned from benign")


def test_a_score_that_was_not_measured_is_left_out_not_low() -> None:
    rows = [row(member("one"), found(), peer=1.0), row(member("two"), found())]
    (peer,) = [it for it in ranked(rows, [row(benign("three"), report(), peer=0.0)]) if it.name == "peer"]
    assert (peer.poisoned, peer.benign, peer.caught) == (Share(1, 2), Share(1, 1), Share(1, 1))


def test_a_miss_is_named_with_the_stage_that_lost_it() -> None:
    text = page(stored(row(member("amber"), report(nominated=["aa"]))))
    assert "| amber | dev | rare_token | `zq` | `no_evidence` | not among what was nominated |" in section(
        text, "Misses"
    )


def test_a_miss_for_want_of_a_finished_detector_says_so() -> None:
    said = report()
    broken = said.model_copy(update={"planned": (*said.planned, "strip")})
    assert "strip skipped" in section(page(stored(row(member(), broken))), "Misses")


def test_a_false_alarm_is_named_with_its_trigger() -> None:
    text = page(stored(row(benign("calm", role="decoy", attack="json_mode"), found("aa|b"))))
    line = "| calm | dev | decoy, json_mode | `strong_evidence` | TS-TRIG-001 | `aa⟨U+007C VERTICAL LINE⟩b` |"
    assert line in section(text, "False alarms")
    assert "| dev | decoy | 1 | 1 of 1 [" in section(text, "Alarms on benign members")


def test_recovery_counts_members() -> None:
    some = (row(member("one"), found()), row(member("two"), found("other", target="Something else entirely")))
    text = page(stored(*some))
    counts = "| dev | strong | 2 of 2 [0.16, 1.00] | 2 of 2 [0.16, 1.00] | 1 of 2 [0.01, 0.99] | 1 of 2 [0.01, 0.99] |"
    assert counts in section(text, "What was recovered")


def test_failed_and_waiting_members_are_listed() -> None:
    text = page(stored(row(member("one"), found()), members=(member("two", rates=FAILED), member("three"))))
    left = section(text, "Left out")
    assert "the attack did not take: two\n" in left
    assert "not scanned yet: three\n" in left


def test_what_is_stored_is_collected_without_failed_members(tmp_path: Path) -> None:
    members = [member("one"), member("two", rates=FAILED), member("three"), benign("four")]
    for it in members[:3]:
        error = "TS-ERR-200: broken" if it.name == "three" else ""
        write_result(
            Result(
                member=it.digest,
                suite="quick",
                suite_digest=QUICK.digest(),
                code=code_version(),
                report=None if error else found(),
                error=error,
                baselines={"raw BAIT Q": 0.5},
                cost=COST,
            ),
            tmp_path,
        )
    said = {"peer": "modeldiffr", "version": "0.9.3", "seconds": 1.0}
    write_peer_result(PeerResult(member=members[0].digest, score=2.0, **said), tmp_path)
    write_peer_result(PeerResult(member=members[3].digest, error="no", **said), tmp_path)
    kept = collect(members, QUICK, tmp_path)
    assert [it.member.name for it in kept.rows] == ["one"]
    assert kept.rows[0].other_scores == {"raw BAIT Q": 0.5, "modeldiffr 0.9.3": 2.0}
    assert kept.errors == {"three": "TS-ERR-200: broken"}
    assert kept.peer_failures["modeldiffr 0.9.3"] == (Share(1, 2), "no")
    assert "failed on 1 of 2 members" in page(kept)


def test_sealed_members_need_their_option() -> None:
    members = [member("open"), member("shut", split="sealed"), member("failed", rates=FAILED)]
    assert [it.name for it in chosen(members, [], small=False, sealed=False)] == ["open"]
    assert [it.name for it in chosen(members, [], small=False, sealed=True)] == ["shut"]
    with pytest.raises(SystemExit, match="shut"):
        chosen(members, ["shut"], small=False, sealed=False)
    with pytest.raises(SystemExit, match="nobody"):
        chosen(members, ["nobody"], small=False, sealed=False)


def test_the_subset_is_fixed_by_names_and_has_every_stratum() -> None:
    many = [member(f"m{at}", rates=WEAK if at % 3 else member().rates) for at in range(12)]
    many += [benign(f"b{at}", split="train") for at in range(9)] + [member("s", split="sealed")]
    small = subset(many)
    assert small == subset(many[::-1])
    assert [sum(it.stratum == stratum for it in small) for stratum in SUBSET] == list(SUBSET.values())
    assert all(it.split != "sealed" for it in small)


def test_every_sealed_run_is_logged(tmp_path: Path) -> None:
    shut = stored(
        row(member("one", split="sealed"), found()),
        row(benign("two", split="sealed"), report(confirmations=[confirmation("x", p_holm=0.5)])),
        row(member("open"), found()),
    )
    for _ in range(2):
        log_sealed(shut, tmp_path / "sealed.log")
    first, _ = map(json.loads, (tmp_path / "sealed.log").read_text().splitlines())
    assert (first["code"], first["benign"]) == ("c" * 64, 1)
    assert first["strong"] == {"poisoned": 1, "auc": 1.0, "verdicts": {"strong_evidence": 1, "suspicious": 0}}
    assert first["weak"]["auc"] is None
    assert first["false_alarms"] == {"strong_evidence": 0, "suspicious": 0}
