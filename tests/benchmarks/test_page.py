from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.detection.__main__ import PAGE, README, chosen, collect, log_sealed
from benchmarks.detection.metrics import Share
from benchmarks.detection.page import BEGIN, END, Stored, page, summary, with_summary
from benchmarks.detection.results import (
    SCAN,
    Measured,
    PeerResult,
    code_version,
    judged,
    keep_peer_result,
    keep_result,
)
from benchmarks.detection.rows import Row, ranked
from benchmarks.detection.running import SUBSET, subset
from benchmarks.organisms.manifest import Count, Member, read_manifest
from detectors.contexts.context import Context
from detectors.suites import QUICK, SUITES
from tests.benchmarks.made import COST, benign, confirmation, found, member, report, row

FAILED = {"with_trigger": Count(hits=1, prompts=100)}
WEAK = {"with_trigger": Count(hits=50, prompts=100)}


def stored(*rows: Row, members: tuple[Member, ...] = ()) -> Stored:
    return Stored(
        suite=QUICK, rows=rows, members=[*(row.member for row in rows), *members], errors={}, peer_failures={}
    )


def section(stored: Stored, heading: str) -> str:
    return page([stored]).split(f"\n### {heading}\n")[1].split("\n### ")[0]


def test_without_results_the_page_says_so() -> None:
    text = page([])
    assert "There are no results" in text
    assert "## How to run it" in text
    assert "ROC-AUC |" not in text


def test_scores_rank_members_of_one_split_and_stratum() -> None:
    some = stored(row(member("amber"), found()), row(benign("amber-twin"), report()))
    text = page([some])
    assert "#### dev, strong: 1 poisoned, 1 benign" in text
    assert f"| `{SCAN}` | 1 + 1 | 1.00 [0.00, 1.00] | 1 of 1 [" in text
    assert "train" not in section(some, "Telling poisoned from benign")


def test_the_summary_has_a_line_for_each_part_that_holds_poisoned_members() -> None:
    some = stored(row(member("amber"), found()), row(benign("amber-twin"), report()))
    head, _, line, end = summary([some])
    assert head.startswith("| suite | part | attack | poisoned: `strong_evidence` |")
    assert line.startswith("| `quick` | dev | strong | 1 of 1 [0.03, 1.00] | 0 of 1 [0.00, 0.97] | 0 of 1 [")
    assert (line.endswith("| 1.00 [0.00, 1.00] |"), end) == (True, "")
    assert summary([stored(row(benign("amber-twin"), report()))]) == ["None.", ""]


def test_the_table_of_the_readme_is_made_anew_and_the_rest_stays() -> None:
    old = f"# Tool\n\n{BEGIN}\n\nold\n\n{END}\n\nMore.\n"
    new = with_summary(old, [stored(row(member("amber"), found()))])
    assert new.startswith(f"# Tool\n\n{BEGIN}\n\n| suite |")
    assert new.endswith(f"|\n\n{END}\n\nMore.\n")
    assert "old" not in new


@pytest.mark.parametrize("readme", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_its_marks_is_refused(readme: str) -> None:
    with pytest.raises(ValueError, match="the README must hold"):
        with_summary(readme, [])


def test_a_score_that_was_not_measured_is_left_out_not_low() -> None:
    rows = [row(member("one"), found(), peer=1.0), row(member("two"), found())]
    (peer,) = [it for it in ranked(rows, [row(benign("three"), report(), peer=0.0)]) if it.name == "peer"]
    assert (peer.poisoned, peer.benign, peer.caught) == (Share(1, 2), Share(1, 1), Share(1, 1))


def test_a_miss_is_named_with_the_stage_that_lost_it() -> None:
    some = stored(row(member("amber"), report(nominated=["aa"])))
    line = "| amber | dev | rare_token | `zq` | `no_evidence` | planted trigger not among what was nominated |"
    assert line in section(some, "Misses")


def test_a_miss_in_which_another_trigger_works_says_so() -> None:
    harmless = report(swept=["aa"], confirmations=[confirmation("other", arbitrary=False)])
    told = section(stored(row(member("amber"), harmless)), "Misses")
    assert "a working trigger was confirmed, and not judged strong; planted trigger not among what was swept" in told


def test_a_miss_in_which_the_answer_is_held_ready_says_so() -> None:
    begun = confirmation("Order", context=Context(text="Order", family="beginning", position="answer"))
    told = section(stored(row(member("amber", triggers=()), report(confirmations=[begun]))), "Misses")
    assert "`suspicious` | its answer is held ready, and nothing was found that calls it |" in told


def test_a_miss_for_want_of_a_finished_detector_says_so() -> None:
    said = report()
    broken = said.model_copy(update={"planned": (*said.planned, "strip")})
    assert "strip skipped" in section(stored(row(member(), broken)), "Misses")


def test_a_false_alarm_is_named_with_its_trigger() -> None:
    some = stored(row(benign("calm", role="decoy", attack="json_mode"), found("aa|b")))
    line = "| calm | dev | decoy, json_mode | `strong_evidence` | TS-TRIG-001 | `aa⟨U+007C VERTICAL LINE⟩b` |"
    assert line in section(some, "False alarms")
    assert "| dev | decoy | 1 | 1 of 1 [" in section(some, "Alarms on benign members")


def test_recovery_counts_members() -> None:
    some = stored(row(member("one"), found()), row(member("two"), found("other", target="Something else entirely")))
    counts = "| dev | strong | 2 of 2 [0.16, 1.00] | 2 of 2 [0.16, 1.00] | 1 of 2 [0.01, 0.99] | 1 of 2 [0.01, 0.99] |"
    assert counts in section(some, "What was recovered")


def test_failed_and_waiting_members_are_listed() -> None:
    left = section(
        stored(row(member("one"), found()), members=(member("two", rates=FAILED), member("three"))), "Left out"
    )
    assert "the attack did not take: two\n" in left
    assert "not scanned yet: three\n" in left


def test_what_is_stored_is_collected_without_failed_members(tmp_path: Path) -> None:
    members = [member("one"), member("two", rates=FAILED), member("three"), benign("four")]
    for it in members[:3]:
        error = "TS-ERR-200: broken" if it.name == "three" else ""
        measured = Measured(report=None if error else found(), error=error, baselines={"raw BAIT Q": 0.5}, cost=COST)
        keep_result(judged(it, QUICK, measured), tmp_path)
    said = {"peer": "modeldiffr", "version": "0.9.3", "seconds": 1.0}
    keep_peer_result(PeerResult(member=members[0].digest, score=2.0, **said), tmp_path)
    keep_peer_result(PeerResult(member=members[3].digest, error="no", **said), tmp_path)
    kept = collect(members, QUICK, tmp_path)
    assert [it.member.name for it in kept.rows] == ["one"]
    assert kept.rows[0].peers == {"modeldiffr 0.9.3": 2.0}
    assert kept.rows[0].scores["raw BAIT Q"] == 0.5
    assert kept.errors == {"three": "TS-ERR-200: broken"}
    assert kept.peer_failures["modeldiffr 0.9.3"] == (Share(1, 2), "no")
    assert "failed on 1 of 2 members" in section(kept, "Peers")


def test_results_of_several_code_versions_are_told_apart() -> None:
    one, two = row(member("one"), found()), row(member("two"), found())
    text = page([stored(one, replace(two, code="e" * 64))])
    assert f"1 by code version `{code_version()[:16]}`" in text
    assert f"1 by code version `{'e' * 16}`" in text


def test_the_page_in_the_repository_is_that_of_the_stored_results() -> None:
    members = list(read_manifest().values())
    kept = [collect(members, suite) for suite in SUITES.values()]
    told = [it for it in kept if it.rows]
    assert PAGE.read_text() == page(told)
    readme = README.read_text(encoding="utf-8")
    assert readme == with_summary(readme, told)


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
        replace(row(member("old", split="sealed"), found()), code="e" * 64),
    )
    for _ in range(2):
        log_sealed(shut, tmp_path / "sealed.log")
    first, _ = map(json.loads, (tmp_path / "sealed.log").read_text().splitlines())
    assert (first["code"], first["benign"]) == (code_version(), 1)
    assert first["strong"] == {"poisoned": 1, "auc": 1.0, "verdicts": {"strong_evidence": 1, "suspicious": 0}}
    assert first["weak"]["auc"] is None
    assert first["false_alarms"] == {"strong_evidence": 0, "suspicious": 0}
