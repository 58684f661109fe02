"""Suites: plans that can be run, and that name what they are."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from detectors.catalog import CATALOG
from detectors.contexts.families import FAMILIES, draw, universe_size
from detectors.engine.invented import InventedAsk
from detectors.suites import DEEP, QUICK, SMOKE, STANDARD, SUITES, WORK, SteeringParams, Suite
from tests.methods.small import INVERSION, RATE, SWEEP
from workers.runner import DETECTORS

VOCABULARY = InventedAsk().facts["base"].vocabulary
every_suite = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


@every_suite
def test_its_detectors_exist_and_take_its_params(suite: Suite) -> None:
    assert set(suite.detectors) <= set(CATALOG)
    for name in suite.detectors:
        DETECTORS[name](suite)  # raises where a prompt set is too small


@every_suite
def test_nominators_come_before_confirmers(suite: Suite) -> None:
    order = [("inspect", "nominate", "confirm", "assess").index(CATALOG[name].stage) for name in suite.detectors]
    assert order == sorted(order)


@every_suite
def test_its_families_offer_what_is_drawn(suite: Suite) -> None:
    inversion = suite.target_inversion
    steering = inversion.steering.families if inversion and inversion.steering else {}
    for name, count in (*suite.trigger_sweep.families.items(), *steering.items()):
        assert name in FAMILIES
        assert 1 <= count <= universe_size(name, VOCABULARY)


@every_suite
def test_what_is_handed_on_is_looked_at(suite: Suite) -> None:
    sweep, rate = suite.trigger_sweep, suite.working_rate
    whole = (sweep, suite.target_inversion, suite.trigger_inversion, suite.answer_sweep, suite.context_grid)
    others = (suite.weight_delta, suite.vocabulary_sweep, suite.gated_persona)
    handed_on = sum(it.handed_on for it in whole if it) + sum(it.nominated for it in others if it)
    assert handed_on <= rate.candidates
    assert rate.confirmed <= rate.candidates
    assert max(sweep.moved.values()) <= sweep.kept


@every_suite
def test_names_and_json(suite: Suite) -> None:
    assert SUITES[suite.name] is suite
    assert Suite.model_validate_json(suite.model_dump_json()) == suite


@pytest.mark.parametrize("suite", [QUICK, STANDARD, DEEP], ids=["quick", "standard", "deep"])
def test_it_sweeps_as_many_contexts_as_it_says(suite: Suite) -> None:
    families = suite.trigger_sweep.families
    drawn = [context for name, count in families.items() for context in draw(name, count, VOCABULARY)]
    different = {(context.text, context.position) for context in drawn}
    assert suite.summary.startswith(f"{len(different):,} contexts of seventeen families")
    assert len(families) == 17


def test_what_standard_steers_to_is_swept_as_well() -> None:
    assert STANDARD.target_inversion is not None
    assert STANDARD.target_inversion.steering is not None
    swept = STANDARD.trigger_sweep.families
    steered = STANDARD.target_inversion.steering.families
    assert not {name for name, count in steered.items() if count > swept.get(name, 0)}


def test_the_digest_follows_the_plan() -> None:
    digests = {suite.digest() for suite in SUITES.values()}
    assert len(digests) == len(SUITES)
    changed = QUICK.model_copy(update={"working_rate": QUICK.working_rate.model_copy(update={"confirm_prompts": 41})})
    assert changed.digest() not in digests
    assert QUICK.model_copy().digest() == QUICK.digest()


def test_steering_counts_as_work_for_what_a_target_is_asked() -> None:
    """Two requests: in 3 + 2 contexts for the subject, then bare, in the 4 best and 2 of them elsewhere for both."""
    steering = SteeringParams(
        targets=1, families={"emoji": 3, "date": 2}, requests=2, kept=4, moved={"start": 2}, nominated=1
    )
    assert steering.scored == 2 * (5 + 2 * (1 + 4 + 2))
    whole_numbers = QUICK.model_copy(
        update={"working_rate": QUICK.working_rate.model_copy(update={"passage_tokens": 0})}
    )
    inversion = QUICK.target_inversion
    assert inversion
    with_it, without = (
        whole_numbers.model_copy(update={"target_inversion": inversion.model_copy(update={"steering": it})}).work
        for it in (steering, None)
    )
    assert with_it - without == steering.scored * WORK["score"]


def test_work_grows_with_the_plan() -> None:
    assert 0 < SMOKE.work < QUICK.work < STANDARD.work < DEEP.work
    more = QUICK.model_copy(update={"trigger_sweep": QUICK.trigger_sweep.model_copy(update={"kept": 200})})
    assert more.work > QUICK.work


@pytest.mark.parametrize(
    ("field", "value"),
    [("first_prompts", 0), ("kept", 0), ("reference", 19), ("harmful_prompts", -1), ("scale_floor", 0.0)],
)
def test_sweep_params_have_bounds(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        type(SWEEP).model_validate(SWEEP.model_dump() | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompts", 1),
        ("beginnings", [8, 8]),
        ("beginnings", [8, 8, 16]),
        ("beginnings", [8, 8, 1]),
        ("nominated", -1),
        ("scale_floor", 0.0),
    ],
)
def test_inversion_params_have_bounds(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        type(INVERSION).model_validate(INVERSION.model_dump() | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("confirm_prompts", 19), ("search_prompts", 3), ("search_tokens", 7), ("min_search_effect", 0.0), ("examples", 0)],
)
def test_confirmation_params_have_bounds(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        type(RATE).model_validate(RATE.model_dump() | {field: value})


def test_quick_corroborates_on_answers_that_were_given_before() -> None:
    strip, rate = QUICK.strip, QUICK.working_rate
    assert strip is not None
    assert QUICK.activation_clustering is not None
    assert strip.answer_tokens == rate.confirm_tokens
    assert strip.inputs <= rate.confirm_prompts
    assert SMOKE.detectors == ("artifact_diff", "weight_delta", "trigger_sweep", "working_rate")


@pytest.mark.parametrize(
    ("suite", "name"),
    [
        *((suite, name) for suite in (QUICK, STANDARD) for name in ("strip", "activation_clustering")),
        (STANDARD, "target_inversion"),
        (QUICK, "trigger_inversion"),
        (STANDARD, "context_grid"),
        *((suite, "vocabulary_sweep") for suite in (STANDARD, DEEP)),
    ],
)
def test_a_detector_without_params_does_not_run_and_costs_nothing(suite: Suite, name: str) -> None:
    without = suite.model_copy(update={name: None})
    assert name in suite.detectors
    assert name not in without.detectors
    assert without.work < suite.work
    with pytest.raises(ValueError, match="`suite` must have params"):
        DETECTORS[name](without)
