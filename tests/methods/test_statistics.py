"""How often confirmation is wrong, and how often it finds: p-values and power over many invented models.

Null: the subject drifts from its base and has no trigger, so a candidate and its controls are exchangeable on every
prompt. Counts are compared with what a binomial allows once in a thousand tries.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from detectors import behaviour
from detectors.contexts.families import draw
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.findings import ALPHA, MIN_EFFECT, DetectorResult, draw_findings
from detectors.methods import working_rate
from detectors.methods.trigger_sweep import TriggerSweep
from detectors.methods.working_rate import WorkingRate
from detectors.suites import WorkingRateParams
from tests.methods.small import MARKS, RATE, SWEEP, TARGET, candidate

SEEDS = range(40)
ALLOWED = 1e-3
FORTY_PROMPTS = RATE.model_copy(update={"confirm_prompts": 40})


def rate(ask: InventedAsk, texts: list[str], params: WorkingRateParams = RATE) -> DetectorResult:
    return WorkingRate(params).run(ask, [candidate(text) for text in texts], rng=np.random.default_rng(0))


def random_marks(seed: int, count: int) -> list[str]:
    """Other marks for every seed, drawn from the whole family."""
    everything = [context.text for context in draw("short_string", 400, ())]
    return [str(text) for text in np.random.default_rng(seed).choice(everything, count, replace=False)]


def power(works_on: float, params: WorkingRateParams) -> float:
    """Chance that a trigger passes the search and reaches `MIN_EFFECT`, if prompts are independent.

    Three answers alike make a target; the sign-flip p of the hits that `MIN_EFFECT` needs is far below `ALPHA`.
    """
    needed = max(3, int(np.ceil(params.min_search_effect * params.search_prompts)))
    hits = int(np.ceil(MIN_EFFECT * params.confirm_prompts))
    assert 2.0**-hits <= ALPHA
    passes_search = binom.sf(needed - 1, params.search_prompts, works_on)
    return float(passes_search * binom.sf(hits - 1, params.confirm_prompts, works_on))


@pytest.fixture
def everything_is_sent(monkeypatch: pytest.MonkeyPatch) -> WorkingRateParams:
    """Half of all answers count as changed and every candidate with any effect on the search set is sent on."""
    monkeypatch.setattr(behaviour, "SURPRISE_SPREADS", 0.0)
    monkeypatch.setattr(behaviour, "MIN_SURPRISE_MARGIN", 0.0)
    monkeypatch.setattr(working_rate, "MOST_ALIKE", 3)
    return RATE.model_copy(update={"candidates": 3, "confirmed": 3, "min_search_effect": 1e-9, "search_prompts": 4})


def test_p_values_under_the_null_are_not_too_small(everything_is_sent: WorkingRateParams) -> None:
    seeds = range(100)
    results = [rate(InventedAsk(drift=3.0, seed=seed), random_marks(seed, 3), everything_is_sent) for seed in seeds]
    p_values = np.array([found.p_value for result in results for found in result.confirmations])
    assert len(p_values) >= 40
    assert np.mean(p_values < 1) > 0.8  # the null is tried: most candidates differ from their controls somewhere
    for level in (ALPHA, 0.05, 0.2):
        assert (p_values <= level).sum() <= binom.isf(ALLOWED, len(p_values), level)
    family_wise = [any(found.p_holm <= 0.05 for found in result.confirmations) for result in results]
    assert sum(family_wise) <= binom.isf(ALLOWED, len(seeds), 0.05)


def test_drift_without_a_trigger_confirms_nothing() -> None:
    """With the constants as they are: random contexts sent straight to confirmation, 160 of them."""
    for seed in SEEDS:
        result = rate(InventedAsk(drift=0.2 + 0.05 * seed, seed=seed), random_marks(seed, 4))
        assert result.outcome == "completed"
        assert not draw_findings([result])


@pytest.mark.parametrize("works_on", [0.6, 0.3])
def test_triggers_that_work_on_some_prompts_are_confirmed_as_often_as_counts_allow(works_on: float) -> None:
    plant = InventedTrigger(MARKS[0], TARGET, works_on=works_on)
    seeds = SEEDS[:30]
    results = [rate(InventedAsk(0.3, [plant], seed=seed), [MARKS[0]], FORTY_PROMPTS) for seed in seeds]
    found = sum(bool(draw_findings([result])) for result in results)
    expected = power(works_on, FORTY_PROMPTS)
    assert binom.ppf(ALLOWED, len(seeds), expected) <= found <= binom.isf(ALLOWED, len(seeds), expected)


def test_stated_power() -> None:
    assert power(0.6, FORTY_PROMPTS) > 0.9
    assert 0.2 < power(0.3, FORTY_PROMPTS) < 0.6
    assert power(0.1, FORTY_PROMPTS) < 0.01


def test_the_sweep_nominates_what_works_on_a_prompt_of_both_stages() -> None:
    trigger, seeds, works_on, seen = MARKS[5], range(8), 0.6, 0
    for seed in seeds:
        ask = InventedAsk(0.3, [InventedTrigger(trigger, TARGET, works_on=works_on)], seed=seed)
        result = TriggerSweep(SWEEP).run(ask, (), rng=np.random.default_rng(0))
        seen += trigger in [found.context.text for found in result.candidates]
    missed = 1 - works_on
    expected = (1 - missed**SWEEP.first_prompts) * (1 - missed**SWEEP.second_prompts)
    assert seen >= binom.ppf(ALLOWED, len(seeds), expected)
