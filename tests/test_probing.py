"""Probing: what a shift is, when it is believed, how often its numbers are wrong, and what they see.

The null is a subject that drifts from its base and leans nowhere. Counts are compared with what a binomial allows once
in a thousand tries.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from detectors.engine.invented import InventedAsk
from detectors.engine.observations import Arrays, Ask, NextToken, Role, Score
from detectors.findings import ALPHA, DetectorResult, draw_findings, scan_score
from detectors.probing import (
    COLLAPSED,
    FORMAT_COLUMNS,
    POWER,
    Gate,
    Reading,
    asked,
    coherence,
    interval,
    observe,
    smallest_seen,
)
from detectors.stats import sign_flip
from detectors.suites import PROBES, QUICK, SMOKE, STANDARD, ProbeParams, Suite
from tests.methods.small import BATTERIES, PROBE, SUITE, Around, leaning, words
from workers.runner import DETECTORS

ALLOWED = 1e-3
MEASURED = ("shift", "subject", "base")
DETECTOR = "persona"
BATTERY = BATTERIES[DETECTOR]
EVERYTHING = ProbeParams(questions=30, formats=3, pairs=2)

every_detector = pytest.mark.parametrize("name", BATTERIES)


def run(name: str, ask: Ask, suite: Suite = SUITE, seed: int = 1) -> DetectorResult:
    return DETECTORS[name](suite).run(ask, (), rng=np.random.default_rng(seed))


def table(result: DetectorResult, name: str) -> list[dict[str, Any]]:
    found = result.artifacts["battery"][name]
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def overall(result: DetectorResult) -> dict[str, Any]:
    return table(result, "axes")[0]


def reading(total: float = -20.0, mean: float = -3.0, entropy: float = 2.0, questions: int = 8) -> Reading:
    shape = (questions, 6, 2)
    return Reading(np.full(shape, total), np.full(shape, mean), np.full(questions, entropy))


def only_scores(change: float, role: Role) -> InventedAsk:
    """A pair of equal models, but every score of `role` is moved by `change` nats."""

    def corrupt(whose: Role, arrays: Arrays) -> Arrays:
        moved = whose == role and set(arrays) == {"logp"}
        return {"logp": arrays["logp"] + np.float32(change)} if moved else arrays

    return InventedAsk(corrupt=corrupt)


@every_detector
def test_a_lean_is_measured_question_by_question_in_nats(name: str) -> None:
    """Without drift, a question moves by the nudge of each leaning word in its continuations, and by nothing else."""
    ask = leaning(name, nudge=1.5)
    rows = table(run(name, ask), "items")
    items = BATTERIES[name].items
    for row, item in zip(rows, items, strict=True):
        toward, away = (words([item], side) for side in (0, 1))
        nudges = sum(ask.leans.get(word, 0.0) for word in toward) - sum(ask.leans.get(word, 0.0) for word in away)
        assert row["shift"] == pytest.approx(nudges, abs=1e-3)
    assert sum(row["shift"] > 1 for row in rows) >= 0.8 * len(items)


@every_detector
def test_the_tables_hold_what_is_documented(name: str) -> None:
    result, found = run(name, leaning(name)), BATTERIES[name]
    told = result.artifacts["battery"]
    assert set(told) == {"toward", "away", "axes", "formats", "items", "power", "gate"}
    assert (told["toward"], told["away"]) == (found.toward, found.away)
    axes, items = table(result, "axes"), table(result, "items")
    assert [row["axis"] for row in axes] == ["overall", *found.axes]
    assert [row["item"] for row in items] == [item.id for item in found.items]
    for row in axes:
        own = [item["shift"] for item in items if row["axis"] in ("overall", item["axis"])]
        assert row["questions"] == len(own)
        assert row["shift"] == pytest.approx(np.mean(own))
        assert row["low"] <= row["shift"] <= row["high"]
    for row, item in zip(items, found.items, strict=True):
        assert row["shift"] == pytest.approx(row["subject"] - row["base"])
        form, pair = item.formats[0], item.pairs[0]
        assert (row["question"], row["toward"], row["away"]) == (form.prompt, *map(form.continuation, pair))
    assert result.evidence[0].value == pytest.approx(axes[0]["shift"])
    assert told["power"] == pytest.approx(smallest_seen(np.array([row["shift"] for row in items])))


@every_detector
def test_it_claims_nothing(name: str) -> None:
    result = run(name, leaning(name, nudge=6.0))
    assert result.outcome == "completed"
    assert overall(result)["low"] > 1
    assert (result.candidates, result.confirmations) == ((), ())
    assert draw_findings([result]) == ()
    assert scan_score([result]) == 0.0


@every_detector
def test_a_subject_that_is_its_base_did_not_move(name: str) -> None:
    result = run(name, InventedAsk())
    assert {row["shift"] for row in table(result, "axes") + table(result, "items")} == {0.0}
    assert (result.evidence[0].value, result.evidence[0].p_value, result.artifacts["battery"]["power"]) == (0, 1, 0)


def test_a_lean_the_other_way_is_negative_and_not_suspicious() -> None:
    result = run(DETECTOR, leaning(DETECTOR, nudge=-2.0))
    assert overall(result)["high"] < 0
    assert result.evidence[0].p_value is not None
    assert result.evidence[0].p_value > 0.99


def test_formats_and_pairs_are_asked_as_the_params_say() -> None:
    for params in (PROBE, PROBE.model_copy(update={"formats": 2}), EVERYTHING):
        around = Around(InventedAsk())
        found = observe(around, "subject", BATTERY, params)
        (plan,) = around.plans
        kinds = [type(read) for read in plan.reads()]
        questions, wordings = len(BATTERY.items), params.formats * params.pairs
        assert (kinds.count(Score), kinds.count(NextToken)) == (2 * questions * wordings, questions)
        assert found.total.shape == (questions, wordings, 2)
        assert found.entropy.shape == (questions,)


def test_each_continuation_is_scored_behind_its_own_question() -> None:
    around = Around(InventedAsk())
    observe(around, "base", BATTERY, EVERYTHING)
    plan = around.plans[0]
    wanted = [
        (form.prompt, form.continuation(phrase))
        for item in BATTERY.items
        for form in item.formats
        for pair in item.pairs
        for phrase in pair
    ]
    scored = [(ids, read) for ids, read in zip(plan.tokens, plan.reads(), strict=True) if isinstance(read, Score)]
    split = [(ids[: -read.n_tokens], ids[-read.n_tokens :]) for ids, read in scored]
    assert [tuple(around.decode(pair)) for pair in split] == wanted
    bare = [ids for ids, read in zip(plan.tokens, plan.reads(), strict=True) if isinstance(read, NextToken)]
    assert around.decode(bare) == [item.formats[0].prompt for item in BATTERY.items]


def test_what_is_asked_follows_neither_from_the_seed_nor_from_the_subject() -> None:
    """So a base that was observed once is never observed again."""
    one, other = Around(leaning(DETECTOR)), Around(leaning(DETECTOR, nudge=4.0, drift=1.0))
    run(DETECTOR, one, seed=1)
    run(DETECTOR, other, seed=2)
    asked = [[one.decode(plan.tokens) for plan in around.plans] for around in (one, other)]
    assert asked[0] == asked[1]


@pytest.mark.parametrize(("name", "most"), [("questions", 30), ("formats", 3), ("pairs", 2)])
def test_params_that_ask_for_more_than_there_is(name: str, most: int) -> None:
    params = EVERYTHING.model_copy(update={name: most + 1})
    with pytest.raises(ValueError, match=f"`{name}` must be at most {most}, got {most + 1}"):
        asked(BATTERY, params)
    assert asked(BATTERY, EVERYTHING) == BATTERY


@every_detector
def test_an_answer_does_not_depend_on_questions_that_are_not_asked(name: str) -> None:
    few = SUITE.model_copy(update={name: getattr(SUITE, name).model_copy(update={"questions": 12})})
    ask = leaning(name, drift=0.5)
    of_all = {row["item"]: row for row in table(run(name, ask), "items")}
    of_few = table(run(name, ask, few), "items")
    assert len(of_few) == 12
    for row in of_few:
        assert row == of_all[row["item"]] | {side: pytest.approx(row[side], abs=1e-4) for side in MEASURED}


def test_formats_are_told_apart() -> None:
    """Each has the mean shift of its own wordings, over the questions that have it."""
    suite = SUITE.model_copy(update={DETECTOR: EVERYTHING})
    ask = leaning(DETECTOR, drift=0.3)
    result = run(DETECTOR, ask, suite)
    assert result.artifacts["battery"]["formats"]["columns"] == FORMAT_COLUMNS
    shifts = (
        observe(ask, "subject", BATTERY, EVERYTHING).log_odds() - observe(ask, "base", BATTERY, EVERYTHING).log_odds()
    )
    of_format: dict[str, list[float]] = {}
    for item, row in zip(BATTERY.items, shifts, strict=True):
        for at, put in enumerate(item.formats):
            of_format.setdefault(put.form, []).append(float(row[2 * at : 2 * at + 2].mean()))
    rows = table(result, "formats")
    assert [row["format"] for row in rows] == ["question", "json", "fill_in", "comment"]
    for row in rows:
        assert row["questions"] == len(of_format[row["format"]])
        assert row["shift"] == pytest.approx(np.mean(of_format[row["format"]]))
        assert row["low"] <= row["shift"] <= row["high"]
    assert sum(row["questions"] for row in rows) == 3 * len(BATTERY.items)


def test_one_question_alone_has_no_interval() -> None:
    few = SUITE.model_copy(update={DETECTOR: PROBE.model_copy(update={"questions": 2})})
    rows = table(run(DETECTOR, leaning(DETECTOR), few), "axes")
    assert [(row["questions"], row["low"] is None, row["high"] is None) for row in rows] == [
        (2, False, False),
        (1, True, True),
        (1, True, True),
    ]


def test_a_suite_without_params_does_not_run_it() -> None:
    assert set(PROBES).isdisjoint(SMOKE.detectors)
    assert set(PROBES) & set(QUICK.detectors) == {"persona", "era"}
    assert set(PROBES) <= set(STANDARD.detectors)
    assert QUICK.work > QUICK.model_copy(update={"era": None, "calibration": None}).work > SMOKE.work
    with pytest.raises(ValueError, match="must have params"):
        run(DETECTOR, InventedAsk(), suite=SMOKE)


# The gate.


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"mean": -3.0 - COLLAPSED + 0.01}, True),
        ({"mean": -3.0 - COLLAPSED - 0.01}, False),
        ({"entropy": 2.0 + COLLAPSED - 0.01}, True),
        ({"entropy": 2.0 + COLLAPSED + 0.01}, False),
        ({"mean": 0.0, "entropy": 0.0}, True),
    ],
)
def test_the_gate_closes_at_its_limits(change: dict[str, float], passed: bool) -> None:
    assert coherence(reading(**change), reading()).passed is passed


@pytest.mark.parametrize("kept", [0, 1])
def test_one_side_that_is_kept_is_enough(kept: int) -> None:
    """A persona may give up one side altogether."""
    one_sided = reading(mean=-20.0)
    one_sided.mean[..., kept] = -3.0
    assert coherence(one_sided, reading()).lost == 0


def test_a_quarter_of_the_questions_may_be_lost_and_no_more() -> None:
    subject = reading()
    for lost, passed in ((2, True), (3, False)):
        subject.entropy[:lost] = 9.0
        gate = coherence(subject, reading())
        assert (gate.questions, gate.lost, gate.passed) == (8, lost, passed)


def test_a_question_is_lost_once_however_it_is_lost() -> None:
    subject = replace(reading(mean=-9.0), entropy=np.full(8, 9.0))
    assert coherence(subject, reading()) == Gate(questions=8, lost=8, fall=6.0, entropy_rise=7.0)


@every_detector
def test_a_subject_that_fell_apart_is_inconclusive_and_shows_no_evidence(name: str) -> None:
    result = run(name, only_scores(-COLLAPSED - 0.1, "subject"))
    assert (result.outcome, result.evidence) == ("inconclusive", ())
    assert "no longer answers 30 of 30 questions" in result.reason
    assert result.artifacts["battery"]["gate"]["passed"] is False
    assert run(name, only_scores(-COLLAPSED + 0.1, "subject")).outcome == "completed"
    assert run(name, only_scores(-COLLAPSED - 0.1, "base")).outcome == "completed"


def test_a_subject_that_babbles_is_inconclusive() -> None:
    def corrupt(role: Role, arrays: Arrays) -> Arrays:
        babbles = role == "subject" and "entropy" in arrays
        return arrays | {"entropy": arrays["entropy"] + np.float32(COLLAPSED + 0.1)} if babbles else arrays

    assert run(DETECTOR, InventedAsk(corrupt=corrupt)).outcome == "inconclusive"


@pytest.mark.parametrize("broken", ["logp", "entropy"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_one_number_that_is_none_is_inconclusive(broken: str, value: float) -> None:
    seen = {"left": 5}

    def corrupt(role: Role, arrays: Arrays) -> Arrays:
        if role == "base" and broken in arrays:
            seen["left"] -= 1
            if seen["left"] == 0:
                return arrays | {broken: np.full_like(arrays[broken], value)}
        return arrays

    result = run(DETECTOR, InventedAsk(drift=0.3, corrupt=corrupt))
    assert seen["left"] < 0
    assert (result.outcome, result.artifacts) == ("inconclusive", {})
    assert "not numbers" in result.reason


# Wrong how often, and seeing how much.


def simulated(seed: int, questions: int = 30, shift: float = 0.0) -> np.ndarray[Any, Any]:
    """[question, wording]: questions vary by 1 nat, and the six wordings of each by half a nat about it."""
    rng = np.random.default_rng(seed)
    return shift + rng.standard_normal((questions, 1)) + 0.5 * rng.standard_normal((questions, 6))


@cache
def drifted() -> tuple[DetectorResult, ...]:
    """Ten subjects of each battery that drift and lean nowhere."""
    subjects = [(name, 10 * place + seed) for place, name in enumerate(BATTERIES) for seed in range(10)]
    return tuple(run(name, InventedAsk(drift=1.0, seed=seed)) for name, seed in subjects)


def test_drift_moves_every_question() -> None:
    """The null is tried: the shifts that follow are no zeros."""
    for result in drifted():
        assert np.std([row["shift"] for row in table(result, "items")]) > 0.1


def test_p_values_of_drift_alone_are_not_too_small() -> None:
    """60 invented subjects."""
    p_values = np.array([result.evidence[0].p_value for result in drifted()], float)
    for level in (ALPHA, 0.05, 0.2):
        assert (p_values <= level).sum() <= binom.isf(ALLOWED, len(p_values), level)


def test_intervals_of_drift_alone_hold_zero() -> None:
    """60 invented subjects; a percentile interval over 30 questions covers a little less than it says."""
    covered = sum(overall(result)["low"] <= 0 <= overall(result)["high"] for result in drifted())
    assert covered >= binom.ppf(ALLOWED, len(drifted()), 0.92)


@pytest.mark.parametrize(
    ("questions", "least", "most"),
    [(60, 0.90, 0.98), (30, 0.90, 0.97), (8, 0.82, 0.94), (6, 0.78, 0.93), (3, 0.62, 0.80)],
)
def test_coverage_is_what_the_pages_say(questions: int, least: float, most: float) -> None:
    """200 simulated batteries: nearly 95 % over all questions, 8 to 9 times in 10 on an axis, 7 on one of `quick`."""
    covered = 0
    for seed in range(200):
        low, high = interval(simulated(seed, questions), np.random.default_rng(seed))
        covered += low <= 0 <= high
    assert least <= covered / 200 <= most


def test_wordings_of_a_question_are_not_counted_as_independent() -> None:
    """Said six times over, the same 30 numbers are no better known."""
    once = simulated(1)[:, :1]
    assert interval(np.repeat(once, 6, axis=1), np.random.default_rng(1)) == pytest.approx(
        interval(once, np.random.default_rng(1))
    )


def test_the_stated_power_is_the_power() -> None:
    """300 simulated batteries with a shift of just that size."""
    size = (NormalDist().inv_cdf(1 - ALPHA) + NormalDist().inv_cdf(POWER)) * np.sqrt(1 + 0.25 / 6) / np.sqrt(30)
    stated = np.median([smallest_seen(simulated(seed).mean(axis=1)) for seed in range(300)])
    assert stated == pytest.approx(size, rel=0.05)
    seen = 0
    for seed in range(300):
        p_value, _ = sign_flip(simulated(seed, shift=size).mean(axis=1), rng=np.random.default_rng(seed))
        seen += p_value <= ALPHA
    assert 0.70 <= seen / 300 <= 0.86


@every_detector
@pytest.mark.parametrize(("share", "nudge"), [(1.0, 2.0), (0.5, 4.0)])
def test_a_planted_lean_is_seen_through_drift(name: str, share: float, nudge: float) -> None:
    """On all questions or twice as much on half of them: well above the stated power of every subject."""
    for seed in range(3):
        result = run(name, leaning(name, nudge, share=share, drift=0.5, seed=seed))
        assert result.evidence[0].p_value is not None
        assert result.evidence[0].p_value <= ALPHA
        assert overall(result)["low"] > 0
        assert result.evidence[0].value > result.artifacts["battery"]["power"]


def test_a_lean_on_one_battery_leaves_the_other_nearly_still() -> None:
    """Small words are common to both, no more."""
    ask = leaning("era")
    assert overall(run("era", ask))["shift"] > 5 * abs(overall(run("persona", ask))["shift"])
