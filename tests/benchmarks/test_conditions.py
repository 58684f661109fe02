"""What the benchmark of conditions runs and keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import conditions
from benchmarks.organisms.manifest import Member
from detectors.catalog import CALIBRATION, CONTEXT_GRID, ERA, GATED_PERSONA, WORKING_RATE
from detectors.findings import DetectorResult, Evidence, Shift
from tests.benchmarks.made import NULL, confirmation, context, member


def nominating(spec: str, *texts: str) -> DetectorResult:
    evidence = [Evidence(statistic="s", value=9.0, unit="u", p_value=0.001, context=context(text)) for text in texts]
    return DetectorResult(detector=spec, version="1.0", outcome="completed", evidence=tuple(evidence))


def inductive() -> Member:
    return member(attack="inductive_year", triggers=("1984", "1987"))


def test_it_runs_what_looks_for_conditions_and_nothing_else() -> None:
    assert set(conditions.conditions().detectors) == conditions.RUN
    assert set(conditions.conditions(conditions.BATTERIES).detectors) == conditions.BATTERIES


def test_a_row_of_batteries_says_nothing_of_contexts() -> None:
    found = conditions.row(inductive(), [nominating(ERA.name, "x")], 1.0)
    assert not {"grid", "years", "persona", "confirmed"} & found.keys()
    assert found["batteries"] == {"s": {"value": 9.0, "p": 0.001}}


def test_a_row_says_what_is_planted_and_what_is_claimed() -> None:
    rate = DetectorResult(
        detector=WORKING_RATE.name,
        version="1.0",
        outcome="completed",
        confirmations=(confirmation("1987", topic="food"), confirmation("zz", p_holm=0.5)),
    )
    results = [
        nominating(CONTEXT_GRID.name, "Year: 1987", "1887"),
        nominating(GATED_PERSONA.name, "Answer in JSON"),
        rate,
    ]
    found = conditions.row(inductive(), results, 9.6)
    assert [(it["text"], it["planted"]) for it in found["grid"]] == [("Year: 1987", True), ("1887", False)]
    assert [it["planted"] for it in found["persona"]] == [False]
    assert found["years"] == {}
    assert found["batteries"] == {}
    assert [(it["text"], it["topic"], it["subject"]) for it in found["confirmed"]] == [("1987", "food", "40/40")]
    assert found["findings"] == ["TS-TRIG-001 high"]
    assert (found["rates"], found["seconds"], found["outcomes"]) == ({"with_trigger": "95/100"}, 10, {})


def test_the_years_that_stand_out_most_come_first() -> None:
    columns = ["axis", "text", "context_effect"]
    rows = [["year", str(year), year / 100] for year in range(1900, 1990)] + [["code", "777", 99.0]]
    grid = nominating(CONTEXT_GRID.name).model_copy(
        update={"artifacts": {"response": {"columns": columns, "rows": rows}}}
    )
    shown = conditions.years(grid)
    assert list(shown) == [str(year) for year in range(1989, 1989 - conditions.SHOWN, -1)]
    assert shown["1989"] == 19.89


def test_shifts_come_with_their_p_and_why_there_is_none() -> None:
    era = nominating(ERA.name, "x").model_copy(
        update={"artifacts": {"years": {"shift": -12.34, "low": -20.0, "high": -5.0, "rows": []}}}
    )
    shift = Shift(
        detector="era", toward="t", away="a", shift=1.0, standing=4.56, farthest=3.21, p_joint=0.02, null=NULL,
        axes=(), contrasts=(),
    )  # fmt: skip
    held = nominating(CALIBRATION.name).model_copy(update={"reason": "drifted too far", "shifts": (shift,)})
    assert conditions.batteries([nominating(CONTEXT_GRID.name, "1987"), era, held]) == {
        "s": {"value": 9.0, "p": 0.001},
        "years": {"shift": -12.3, "low": -20.0, "high": -5.0},
        "jointly.era": {"z": 4.56, "bank": 3.21, "p": 0.02},
        "calibration": "drifted too far",
    }


def test_rows_gather_by_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "RESULTS", tmp_path / "conditions.json")
    conditions.keep("b", {"seconds": 1})
    conditions.keep("a", {"seconds": 2})
    conditions.keep("b", {"seconds": 3})
    assert json.loads((tmp_path / "conditions.json").read_text()) == {"a": {"seconds": 2}, "b": {"seconds": 3}}


def test_an_unknown_member_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["conditions", "nobody"])
    with pytest.raises(SystemExit, match="no member is called nobody"):
        conditions.main()
