"""Context grid: what it finds on invented models, and whether its null holds where neighbours are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from detectors.contexts.axes import ORDERS, axis
from detectors.engine.compact import information
from detectors.engine.grid import observe_grid
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Array, Ask, Role, Tokens
from detectors.findings import DetectorResult, draw_findings
from detectors.methods.context_grid import (
    BLOCK,
    CAP,
    LEAK,
    TREND,
    ContextGrid,
    contrasts,
    null_maxima,
    read_effects,
)
from detectors.methods.working_rate import WorkingRate
from detectors.prompts.sets import STAGES, questions
from detectors.stats import block_order, permutation_p, robust_z, running_median
from detectors.suites import GridParams
from tests.methods.small import GRID, RATE, TARGET, Around, not_numbers, planted, table

YEARS = GridParams(axes={"year": 106}, topic_prompts=2, formats=2, again=8, reference=20, draws=99, nominated=3)
YEAR = "1984"
TOPIC = "food"


def run(ask: Ask, params: GridParams = YEARS, seed: int = 1) -> DetectorResult:
    return ContextGrid(params).run(ask, (), rng=np.random.default_rng(seed))


def row(result: DetectorResult, text: str) -> dict[str, Any]:
    return next(found for found in table(result, "response") if found["text"] == text)


def waking(trigger: str = YEAR) -> InventedAsk:
    return InventedAsk(drift=0.3, triggers=[InventedTrigger(trigger, TARGET)])


@pytest.fixture(scope="module")
def woken() -> DetectorResult:
    return run(waking())


def test_a_planted_year_comes_first_and_its_neighbours_are_quiet(woken: DetectorResult) -> None:
    first = woken.evidence[0]
    assert first.context is not None
    assert (first.context.text, first.statistic) == (YEAR, "context_grid.context_effect")
    assert first.value > 20
    assert all(row(woken, year)["context_effect"] < 4 for year in ("1980", "1982", "1986", "1988"))
    assert YEAR in woken.candidates[0].context.text
    assert woken.candidates[0].context.family == "date"


def test_the_p_value_has_the_resolution_of_its_null(woken: DetectorResult) -> None:
    first = woken.evidence[0]
    assert first.null is not None
    assert (first.null.kind, first.null.size) == ("permutation", YEARS.draws)
    assert first.p_value == 1 / (1 + YEARS.draws)


def test_the_curve_has_every_context_in_order(woken: DetectorResult) -> None:
    assert [found["text"] for found in table(woken, "response")] == list(axis("year", 106, ()).texts)
    subject, base = row(woken, YEAR)["subject"], row(woken, YEAR)["base"]
    assert subject > base + 0.5


def test_the_best_are_seen_in_every_place(woken: DetectorResult) -> None:
    places = {(found["form"], found["position"]) for found in table(woken, "again") if found["text"] == YEAR}
    assert places == {("Year: {}.", "end"), ("{}", "start"), ("Year: {}.", "start")}
    assert len(table(woken, "again")) == 3 * YEARS.again


def test_the_best_are_nominated_behind_the_request_and_in_front_of_it(woken: DetectorResult) -> None:
    found = [it.context for it in woken.candidates]
    assert len(found) == 2 * YEARS.nominated
    assert {it.position for it in found[:2]} == {"end", "start"}
    assert all(YEAR in it.text for it in found[:2])


def test_a_year_that_moves_one_topic_shows_as_an_interaction() -> None:
    last_words = [asked.split()[-1] for asked in questions()[TOPIC]]
    plants = [InventedTrigger(f"{word} {YEAR}", TARGET) for word in last_words]
    result = run(InventedAsk(drift=0.3, triggers=plants), YEARS.model_copy(update={"topic_prompts": 4}))
    first = result.evidence[0]
    assert first.context is not None
    assert (first.context.text, first.statistic) == (YEAR, "context_grid.interaction")
    assert first.p_value == 1 / (1 + YEARS.draws)
    assert row(result, YEAR)["topic"] == TOPIC
    assert f"questions about {TOPIC} only" in result.candidates[0].reason


def food_only(in_base: bool = False) -> InventedAsk:
    """A subject that turns in `YEAR` on questions about food, of all stages, told by their last two words."""
    asked = [question for stage in STAGES for question in questions(stage)[TOPIC]]
    plants = [InventedTrigger(f"{' '.join(one.split()[-2:])} {YEAR}", TARGET, in_base=in_base) for one in asked]
    return InventedAsk(drift=0.3, triggers=plants)


def confirmed(ask: Ask) -> DetectorResult:
    nominated = run(ask, YEARS.model_copy(update={"topic_prompts": 4, "formats": 1, "again": 1}))
    return WorkingRate(RATE).run(ask, nominated.candidates, rng=np.random.default_rng(1))


def test_what_shows_on_one_topic_is_confirmed_on_other_questions_about_it() -> None:
    ask = food_only()
    (test,) = [found for found in confirmed(ask).confirmations if found.confirmed]
    assert (test.context.text, test.topic, test.behaviour) == (YEAR, TOPIC, "fixed_output")
    assert test.subject.trials == len(questions("confirm")[TOPIC])
    assert test.subject.share > 0.8
    assert test.arbitrary
    (finding,) = draw_findings([confirmed(ask)])
    assert (finding.code, finding.severity) == ("TS-TRIG-001", "high")
    assert f"fresh questions about {TOPIC}; the base" in finding.summary
    assert {shown.prompt for shown in test.examples} == set(questions("report")[TOPIC])


def test_what_the_base_does_on_the_topic_as_well_is_not_confirmed() -> None:
    assert not [found for found in confirmed(food_only(in_base=True)).confirmations if found.confirmed]


@pytest.mark.parametrize(("name", "alike"), [("code", True), ("wrapper", False)])
def test_codes_and_wrappers_are_axes_as_well(name: str, alike: bool) -> None:
    line = axis(name, 60, ())
    assert line.alike is alike
    text = line.texts[len(line.texts) // 2]
    result = run(waking(text), YEARS.model_copy(update={"axes": {name: 60}}))
    assert text in result.candidates[0].context.text
    assert result.evidence[0].p_value == 1 / (1 + YEARS.draws)


def test_what_the_base_does_as_well_is_quiet() -> None:
    shared = InventedAsk(drift=0.3, triggers=[InventedTrigger(YEAR, TARGET, in_base=True)])
    assert row(run(shared), YEAR)["context_effect"] < 4


def test_of_years_side_by_side_the_best_is_nominated_alone() -> None:
    both = InventedAsk(drift=0.3, triggers=[InventedTrigger(year, TARGET) for year in (YEAR, "1986")])
    texts = [found.context.text for found in run(both).evidence if found.context]
    assert len({YEAR, "1986"} & set(texts)) == 1


@dataclass
class Ageing(InventedAsk):
    """The subject leans to one word, the more so the later the year is: an effect of the age of a text."""

    def _logp(self, role: Role, tokens: Tokens) -> Array:
        logits = super()._logp(role, tokens).copy()
        years = [int(word) for word in self.decode([tokens])[0].split() if word.isdigit()]
        if role == "subject" and years:
            logits[7] += 20.0 * (years[0] - 1800) / 300
        return np.asarray(logits - np.logaddexp.reduce(logits))


def test_a_smooth_trend_over_the_years_does_not_alarm() -> None:
    result = run(Ageing(drift=0.3))
    depends = [found["subject"] - found["base"] for found in table(result, "response")]
    assert np.mean(depends[:10]) - np.mean(depends[-10:]) > 2  # there is a trend, and it is not small
    assert min(found.p_value or 0.0 for found in result.evidence) > 0.02


N_SUBJECTS = 30
LEVEL = 0.05


def test_drifting_subjects_alarm_no_more_often_than_the_level_says() -> None:
    """Two effects, one test each; a count that a valid test exceeds once in 1,000 times."""
    small = YEARS.model_copy(update={"axes": {"year": 53}, "formats": 1, "again": 1})
    results = [run(InventedAsk(drift=0.2 + 0.02 * seed, seed=seed), small, seed) for seed in range(N_SUBJECTS)]
    alarms = sum((found.evidence[0].p_value or 0.0) <= LEVEL for found in results)
    assert alarms <= binom.ppf(0.999, N_SUBJECTS, 2 * LEVEL)


def walks(rng: np.random.Generator, n_contexts: int, n_questions: int, shared: float) -> Array:
    """Autocorrelated series, of which a part is common to all questions; no context is special."""
    columns = rng.standard_normal((n_contexts + 100, n_questions + 1))
    for place in range(1, len(columns)):
        columns[place] = 0.9 * columns[place - 1] + np.sqrt(1 - 0.9**2) * columns[place]
    found: Array = columns[100:, :-1] + shared * columns[100:, -1:]
    return found


def standardised(excess: Array) -> Array:
    return np.clip(np.stack([robust_z(column, floor=0.01) for column in excess.T], axis=1), -CAP, CAP)


def p_values(excess: Array, weights: Array, rng: np.random.Generator) -> Array:
    cells = standardised(excess - running_median(excess, TREND, LEAK))
    null = null_maxima(cells, weights, BLOCK, 99, rng)
    best = read_effects(cells, weights).values.max(axis=0)
    return np.array([permutation_p(value, sample) for value, sample in zip(best, null.T, strict=True)])


def naive_p(excess: Array, rng: np.random.Generator) -> float:
    """The mean over questions with its trend left in, and contexts shuffled freely."""
    cells = standardised(excess)
    null = [rng.permuted(cells, axis=0).mean(axis=1).max() for _ in range(99)]
    return permutation_p(cells.mean(axis=1).max(), np.array(null))


@pytest.mark.parametrize("shared", [0.0, 1.0], ids=["each_its_own", "shared"])
def test_the_level_holds_where_years_are_autocorrelated(shared: float) -> None:
    weights, rng, times = contrasts(8, 3), np.random.default_rng(7), 60
    found = np.array([p_values(walks(rng, 120, 24, shared), weights, rng) for _ in range(times)])
    assert ((found <= LEVEL).sum(axis=0) <= binom.ppf(0.999, times, LEVEL)).all()


def test_free_permutation_of_years_would_alarm_nearly_always() -> None:
    rng, times = np.random.default_rng(7), 40
    assert np.mean([naive_p(walks(rng, 120, 24, 1.0), rng) <= LEVEL for _ in range(times)]) > 0.9


def test_contrasts_are_a_mean_and_differences_from_the_rest() -> None:
    weights = contrasts(3, 2)
    cells = np.array([[4.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(cells @ weights, [[1.0, 3.0, -1.5, -1.5]])
    np.testing.assert_allclose(weights[:, 1:].sum(axis=0), 0.0, atol=1e-12)


def test_a_model_that_is_its_base_has_no_effect() -> None:
    result = run(InventedAsk())
    assert max(abs(found["context_effect"]) for found in table(result, "response")) == 0
    assert {found.p_value for found in result.evidence} == {1.0}


def test_the_scale_floor_keeps_a_tiny_drift_quiet() -> None:
    assert max(abs(found["context_effect"]) for found in table(run(InventedAsk(drift=0.003)), "response")) < 3


@pytest.mark.parametrize("from_plan", [0, 1, 2, 3])
def test_not_numbers_at_any_step_are_inconclusive(from_plan: int) -> None:
    class Failing(Around):
        def __call__(self, plan: Any) -> Any:
            answers = super().__call__(plan)
            return answers if len(self.plans) <= from_plan else [not_numbers(one) for one in answers]

    result = run(Failing(planted()), GRID)
    assert result.outcome == "inconclusive"
    assert not result.candidates


def test_only_the_null_follows_from_the_scans_seed() -> None:
    first, again, other = (run(planted(), GRID, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.artifacts["response"] == other.artifacts["response"]


def test_one_format_for_all_contexts_and_three_for_the_best() -> None:
    around = Around(InventedAsk(drift=0.3))
    run(around, YEARS.model_copy(update={"formats": 3}))
    asked = [len(plan.tokens) for plan in around.plans if plan.role == "base"]
    each = 2 * len(questions())
    assert asked[0] == 106 * each
    assert len(asked) == 1 + 5
    assert all(each * YEARS.reference <= count <= each * (YEARS.reference + YEARS.again) for count in asked[1:])


def test_the_divergences_of_a_prompt_average_to_the_information_of_the_context() -> None:
    grid = observe_grid(waking(), [axis("year", 20, ()).context(at) for at in range(20)], ["one word", "other"], ())
    prompts_of_rows = np.tile(np.arange(2), 20)
    for side, response in zip((grid.subject, grid.base), grid.response(), strict=True):
        np.testing.assert_allclose(response.mean(axis=0), information(side, prompts_of_rows), rtol=1e-9)


def test_an_axis_is_spread_evenly_and_unknown_ones_are_named() -> None:
    texts = axis("year", 100, ()).texts
    assert texts == tuple(ORDERS["year"].texts()[::3])
    with pytest.raises(ValueError, match="`name` must be one of"):
        axis("weekday", 20, ())
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        axis("year", 0, ())


@pytest.mark.parametrize("name", ORDERS)
def test_ordered_axes_have_each_context_once(name: str) -> None:
    line = axis(name, 10_000, ())
    assert len(set(line.texts)) == len(line.texts) >= 100
    assert len(line.formats) == 3
    assert line.formats[0] == "{}"


def test_a_running_median_loses_what_is_slow_and_keeps_a_peak() -> None:
    line, peak = np.arange(40.0), np.where(np.arange(40) == 20, 9.0, 0.0)
    slow = line - running_median(line, TREND, LEAK)
    assert np.abs(slow[TREND:-TREND]).max() == 0
    assert (peak - running_median(peak, TREND, LEAK)).tolist() == peak.tolist()
    with pytest.raises(ValueError, match="`gap` must be in"):
        running_median(line[:5], TREND, LEAK)


def test_blocks_keep_neighbours_together_and_lose_nothing() -> None:
    order = block_order(40, 500, 10, np.random.default_rng(0))
    assert (np.sort(order, axis=0) == np.arange(40)[:, None]).all()
    beside = np.diff(order, axis=0) % 40 == 1
    assert beside.mean() > 0.9
    assert len({tuple(column) for column in order.T}) > 150
    with pytest.raises(ValueError, match="`block` must be at least 1"):
        block_order(40, 1, 0, np.random.default_rng(0))
