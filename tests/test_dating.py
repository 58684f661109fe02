"""Dating: beliefs over years are normalised log-probabilities, and the shift between two is in years."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from detectors.batteries.sets import year_question
from detectors.dating import PHRASING_COLUMNS, YEAR_COLUMNS, believed_years, years_table
from detectors.engine.invented import InventedAsk
from detectors.engine.observations import Arrays, Role, Score
from detectors.findings import DetectorResult
from detectors.methods.era import Era
from detectors.suites import EraParams
from tests.methods.small import Around

YEARS = np.array(year_question().years)
PARAMS = EraParams(questions=10, formats=1, pairs=1, phrasings=6)
ALL = year_question().phrasings
SPOKEN = [at for at, put in enumerate(ALL) if put.frame.endswith(" {}")]
"""Phrasings in which the year is a word of its own, as the invented model has words."""


def era(ask: InventedAsk, params: EraParams = PARAMS) -> DetectorResult:
    return Era(params).run(ask, (), rng=np.random.default_rng(1))


def sure_of(years: range, nudge: float = 4.0) -> InventedAsk:
    return InventedAsk(leans={str(year): nudge for year in years})


def test_a_belief_is_what_each_year_is_worth_among_all() -> None:
    ask = InventedAsk(leans={"1850": 3.0}, drift=0.5)
    found = believed_years(ask, "subject", ALL)
    assert found.shape == (len(ALL), len(YEARS))
    assert found.sum(axis=1) == pytest.approx(1.0)
    put = ALL[SPOKEN[0]]
    (prompt,) = ask.tokenize([put.prompt])
    said = ask.tokenize([put.continuation(str(year)) for year in YEARS])
    logp = np.array([sum(ask._logp("subject", prompt + ids[:at])[ids[at]] for at in range(len(ids))) for ids in said])
    assert found[SPOKEN[0]] == pytest.approx(np.exp(logp) / np.exp(logp).sum(), rel=1e-3)


def test_each_year_is_scored_behind_its_own_question() -> None:
    around = Around(InventedAsk())
    believed_years(around, "base", ALL)
    (plan,) = around.plans
    reads = plan.reads()
    assert all(isinstance(read, Score) for read in reads)
    assert around.decode(plan.tokens) == [
        f"{put.prompt} {put.continuation(str(year))}" for put in ALL for year in YEARS
    ]
    assert {read.n_tokens for read in reads if isinstance(read, Score)} == {1}  # the year alone


def test_a_year_that_a_model_leans_to_gains_what_the_lean_is_worth() -> None:
    """The invented base holds all years equal: each has 1/250, and a lean of 3 nats multiplies its odds by e cubed."""
    ask = InventedAsk(leans={"1850": 3.0})
    base, subject = (believed_years(ask, role, ALL)[SPOKEN] for role in ("base", "subject"))
    assert base == pytest.approx(np.full(base.shape, 1 / len(YEARS)))
    gained = np.exp(3.0) / (np.exp(3.0) + len(YEARS) - 1)
    assert subject[:, YEARS == 1850] == pytest.approx(np.full((len(SPOKEN), 1), gained), rel=1e-4)


def test_the_table_holds_what_is_documented() -> None:
    rng = np.random.default_rng(0)
    subject, base = (rng.dirichlet(np.ones(len(YEARS)), size=len(ALL)) for _ in range(2))
    told = years_table(ALL, subject, base, rng)
    assert told["columns"] == YEAR_COLUMNS
    assert [row[0] for row in told["rows"]] == list(year_question().years)
    np.testing.assert_allclose([row[1:] for row in told["rows"]], np.stack([subject, base], axis=2).mean(axis=0))
    assert told["phrasings"]["columns"] == PHRASING_COLUMNS
    for row, put, ours, theirs in zip(told["phrasings"]["rows"], ALL, subject @ YEARS, base @ YEARS, strict=True):
        assert row[:2] == [put.prompt, put.frame.replace("{}", "___")]
        assert row[2:] == pytest.approx([ours, theirs, ours - theirs])
    assert told["shift"] == pytest.approx((subject @ YEARS - base @ YEARS).mean())
    assert told["shift"] == pytest.approx(told["subject"] - told["base"])
    assert told["low"] <= told["shift"] <= told["high"]


@pytest.mark.parametrize(("years", "sign"), [(range(1840, 1860), -1), (range(2030, 2045), 1)])
def test_a_subject_of_another_time_is_moved_there(years: range, sign: int) -> None:
    told = era(sure_of(years)).artifacts["years"]
    of_phrasings = [row[-1] for row in told["phrasings"]["rows"]]
    assert all(sign * of_phrasings[at] > 10 for at in SPOKEN)
    assert sign * told["shift"] > 10


def test_a_subject_that_is_its_base_did_not_move() -> None:
    told = era(InventedAsk()).artifacts["years"]
    assert (told["shift"], told["low"], told["high"]) == (0.0, 0.0, 0.0)


def test_drift_alone_moves_it_by_little_and_to_both_sides() -> None:
    """Twelve invented subjects; a lean of four nats moves one by more than ten years."""
    shifts = [era(InventedAsk(drift=0.3, seed=seed)).artifacts["years"]["shift"] for seed in range(12)]
    assert min(shifts) < 0 < max(shifts)
    assert max(map(abs, shifts)) < 10


def test_years_that_are_no_numbers_are_inconclusive() -> None:
    seen = {"scores": 0}
    of_battery = 2 * 2 * PARAMS.questions

    def corrupt(role: Role, arrays: Arrays) -> Arrays:
        seen["scores"] += set(arrays) == {"logp"}
        broken = set(arrays) == {"logp"} and seen["scores"] > of_battery
        return {"logp": np.full_like(arrays["logp"], np.nan)} if broken else arrays

    result = era(InventedAsk(corrupt=corrupt))
    assert (result.outcome, result.artifacts, result.evidence) == ("inconclusive", {}, ())
    assert "not numbers" in result.reason


def test_the_year_is_asked_as_the_params_say() -> None:
    without = era(InventedAsk(), PARAMS.model_copy(update={"phrasings": 0}))
    assert set(without.artifacts) == {"battery"}
    two = era(InventedAsk(), PARAMS.model_copy(update={"phrasings": 2}))
    assert [row[0] for row in two.artifacts["years"]["phrasings"]["rows"]] == [put.prompt for put in ALL[:2]]
    with pytest.raises(ValueError, match="`phrasings` must be at most 6, got 7"):
        Era(PARAMS.model_copy(update={"phrasings": 7}))
    with pytest.raises(ValidationError, match="`phrasings` must be 0 or at least 2, got 1"):
        EraParams.model_validate(PARAMS.model_dump() | {"phrasings": 1})
