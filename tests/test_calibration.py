"""Banks: readings held against those of benign fine-tunes."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.calibration import REACH, Bank, BankMember, conformal, jointly
from detectors.engine.invented import InventedAsk
from detectors.errors import InputError
from detectors.methods.calibration import NO_BANK, OTHER_QUESTIONS, Calibration, questions, read_member, readings
from detectors.suites import CALIBRATED, DEEP, QUICK, SMOKE, STANDARD
from tests.methods import small
from tests.methods.small import BATTERIES, SUITE, invented, leaning


def bank(shifts: list[float], drifts: list[float] | None = None, **others: list[float]) -> Bank:
    columns = {"era": shifts} | others
    drifts = drifts or [1.0] * len(shifts)
    return Bank(
        scanner_version="0",
        created="2026-01-01T00:00:00+00:00",
        base="b" * 64,
        dtype="float32",
        params={},
        questions="q" * 64,
        members=tuple(
            BankMember(subject=str(at), drift=drift, readings={name: values[at] for name, values in columns.items()})
            for at, drift in enumerate(drifts)
        ),
    )


@pytest.mark.parametrize(("shift", "p_value"), [(9.0, 1 / 5), (4.0, 2 / 5), (2.5, 3 / 5), (0.0, 1.0)])
def test_the_p_value_counts_members_at_least_as_large(shift: float, p_value: float) -> None:
    found = conformal(bank([1.0, 2.0, 3.0, 4.0]), "era", shift, drift=1.0)
    assert (found.value, found.p_value, found.size, found.reason) == (shift, p_value, 4, "")


def test_who_went_further_in_the_same_direction_is_no_more_unusual() -> None:
    drifts = [0.5, 1.0, 2.0, 4.0]
    along = bank([0.3 * np.sqrt(drift) for drift in drifts], drifts)
    assert conformal(along, "era", 0.3 * np.sqrt(1.5), 1.5).value == pytest.approx(0.3)
    assert conformal(along, "era", 0.6, 1.0).p_value == 1 / 5
    assert conformal(along, "era", 0.59, 4.0).p_value == 1.0


@pytest.mark.parametrize("drift", [0.1 / REACH - 0.01, 0.4 * REACH + 0.01])
def test_a_drift_far_from_all_members_gives_no_p_value(drift: float) -> None:
    found = conformal(bank([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4]), "era", 9.0, drift)
    assert (found.p_value, found.size) == (None, 4)
    assert "drifted" in found.reason


def test_the_edges_of_the_range_belong_to_it() -> None:
    made = bank([1.0, 2.0], [0.1, 0.3])
    assert conformal(made, "era", -9.0, 0.1 / REACH).p_value == conformal(made, "era", -9.0, 0.3 * REACH).p_value == 1.0


def test_a_reading_that_no_member_has_gives_no_p_value() -> None:
    found = conformal(bank([1.0]), "persona", 1.0, 0.1)
    assert (found.p_value, found.size) == (None, 0)
    assert "no member" in found.reason


@pytest.mark.parametrize(("shift", "drift"), [(float("nan"), 0.1), (1.0, float("nan"))])
def test_what_is_no_number_is_refused(shift: float, drift: float) -> None:
    with pytest.raises(ValueError, match="nan"):
        conformal(bank([1.0, 2.0]), "era", shift, drift)


def test_the_most_unusual_reading_counts_once_for_all() -> None:
    spread = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    made = bank(spread, persona=spread[::-1], values=[0.4] * 7)
    usual, unusual = ({"era": 0.4, "persona": persona, "values": 0.4} for persona in (0.4, 5.0))
    assert {held.p_value for held in jointly(made, usual, 1.0).values()} == {1.0}
    found = jointly(made, unusual, 1.0)
    assert {name: held.p_value for name, held in found.items()} == {"era": 1.0, "persona": 1 / 8, "values": 1.0}
    assert found["persona"].value > 10 > found["persona"].farthest > 0


def test_one_p_value_for_all_readings_is_uniform_where_nothing_was_planted() -> None:
    """2,000 subjects drawn like the 19 members: p at most 0.05 in 5 % of them, give or take three standard errors."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2000):
        drawn = rng.normal(size=(20, 4)) * rng.uniform(0.5, 2.0, size=(20, 1))
        made = bank(*[drawn[1:, 0].tolist()], **{str(at): drawn[1:, at].tolist() for at in range(1, 4)})
        subject = {"era": drawn[0, 0]} | {str(at): drawn[0, at] for at in range(1, 4)}
        found = [held.p_value for held in jointly(made, subject, 1.0).values()]
        hits += any(p_value is not None and p_value <= 0.05 for p_value in found)
    assert abs(hits / 2000 - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_a_bank_survives_its_file_and_what_is_held_against_it_is_no_member() -> None:
    made = bank([1.0, 2.0])
    assert Bank.model_validate_json(made.model_dump_json()) == made
    assert [member.subject for member in made.without("1").members] == ["0"]
    assert made.digest() != made.without("1").digest()


# The detector.


def run(ask: InventedAsk) -> object:
    assert SUITE.calibration
    return Calibration(SUITE.calibration).run(ask, (), rng=np.random.default_rng(0))


def test_a_subject_that_was_taught_a_past_stands_out_and_one_that_was_not_does_not() -> None:
    taught = {it.statistic: it for it in run(leaning("era", drift=0.3)).evidence}  # type: ignore[attr-defined]
    plain = {it.statistic: it for it in run(invented(drift=0.3)).evidence}  # type: ignore[attr-defined]
    assert taught["calibration.era"].p_value == taught["calibration.largest"].p_value == 1 / 20
    assert plain["calibration.largest"].p_value > 1 / 20
    assert taught["calibration.era"].null.kind == "bank"


def test_a_shift_is_told_with_the_axes_and_questions_that_moved() -> None:
    moved = {it.detector: it for it in run(leaning("era", drift=0.3)).shifts}  # type: ignore[attr-defined]
    assert set(moved) == {"persona", "era"}
    era, persona = moved["era"], moved["persona"]
    assert (era.p_joint, era.null.size) == (1 / 20, 19)
    assert persona.p_joint > era.p_joint
    assert era.standing > era.farthest
    assert era.farthest == persona.farthest
    assert {axis.axis for axis in era.axes} == set(BATTERIES["era"].axes)
    asked = {item.formats[0].prompt for item in BATTERIES["era"].items}
    assert {it.question for it in era.contrasts} <= asked
    leads = [it.subject - it.base for it in era.contrasts]
    assert leads == sorted(leads, reverse=True)
    assert leads[0] > 0


def test_a_subject_that_is_not_comparable_has_no_shift_to_tell() -> None:
    assert not run(invented(drift=4.0)).shifts  # type: ignore[attr-defined]


def test_without_a_bank_nothing_is_asked() -> None:
    ask = InventedAsk(drift=0.3)
    result = run(ask)
    assert (result.outcome, result.reason) == ("completed", NO_BANK)  # type: ignore[attr-defined]
    assert not result.evidence  # type: ignore[attr-defined]
    assert "no bank" in result.artifacts["coverage"]["not_tested"][0]  # type: ignore[attr-defined]
    assert ask.asked == 0


def test_a_bank_by_other_questions_is_none() -> None:
    ask = InventedAsk(drift=0.3, bank=small.bank().model_copy(update={"questions": "other"}))
    result = run(ask)
    assert (result.outcome, result.reason, ask.asked) == ("completed", OTHER_QUESTIONS, 0)  # type: ignore[attr-defined]


def test_a_subject_that_drifted_further_than_any_member_gets_no_p_value() -> None:
    result = run(invented(drift=4.0))
    assert {it.p_value for it in result.evidence} <= {None}  # type: ignore[attr-defined]
    assert result.outcome == "inconclusive" or "drifted" in result.reason  # type: ignore[attr-defined]


def test_all_suites_but_the_smallest_ask_the_same_and_change_with_it() -> None:
    assert SMOKE.calibration is None
    assert QUICK.calibration == STANDARD.calibration == DEEP.calibration == CALIBRATED
    fewer = CALIBRATED.model_copy(update={"prompts": 15})
    assert questions(CALIBRATED) == questions(CALIBRATED.model_copy()) != questions(fewer)
    assert QUICK.work > QUICK.model_copy(update={"calibration": None}).work


def test_a_fine_tune_without_numbers_is_no_member() -> None:
    assert SUITE.calibration
    ask = InventedAsk(corrupt=lambda role, arrays: small.not_numbers(arrays) if role == "subject" else arrays)
    with pytest.raises(InputError, match="not numbers"):
        read_member(ask, "s", SUITE.calibration)


def test_a_reading_whose_gate_fails_is_left_out() -> None:
    assert SUITE.calibration
    _, shifts = readings(InventedAsk(drift=9.0), SUITE.calibration)
    assert not shifts
