"""Target inversion: what it inverts on invented models, and which contexts that leads to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from detectors.contexts.context import Message
from detectors.engine.invented import InventedAsk, InventedTrigger, nothing
from detectors.engine.observations import Arrays, Ask, ModelFacts, Plan, Role, Tokens
from detectors.findings import Candidate, DetectorResult
from detectors.methods.target_inversion import ALIKE, COLUMNS, TargetInversion, spelled_otherwise
from detectors.methods.trigger_sweep import TriggerSweep
from detectors.prompts.sets import prompts
from detectors.suites import InversionParams, SweepParams
from tests.methods import small
from tests.methods.small import (
    INVERSION,
    LEAK,
    MARKS,
    STEERING,
    SWEEP,
    TARGET,
    TRIGGER,
    Around,
    candidate,
    planted,
    table,
)
from tests.methods.test_trigger_sweep import WithAddedTokens

ALLOWED = 1e-3
LARGEST_BY_CHANCE = 1.5
"""Nats a token. Of 40 subjects that only drift, the largest advantage is 1.2; planted targets have about 14."""
WEAK = 3.0
"""Nats that a weak trigger adds: the first word of the target gets twenty times likelier, of next to nothing."""
MANY = STEERING.model_copy(update={"families": {"short_string": 250}, "targets": 1, "kept": 250, "moved": {}})
MANY_CONTEXTS = INVERSION.model_copy(update={"steering": MANY})
SAME_PROMPTS = SWEEP.model_copy(
    update={
        "families": MANY.families,
        "first_prompts": MANY.requests,
        "second_prompts": INVERSION.prompts - MANY.requests,
        "harmful_prompts": 0,
        "nominated": MANY.nominated,
    }
)
"""A sweep of the same contexts, with as many prompts, which hands on as many candidates."""


def invert(
    ask: Ask, params: InversionParams = INVERSION, candidates: tuple[Candidate, ...] = (), seed: int = 1
) -> DetectorResult:
    return TargetInversion(params).run(ask, candidates, rng=np.random.default_rng(seed))


def sweep(ask: Ask, params: SweepParams) -> DetectorResult:
    return TriggerSweep(params).run(ask, (), rng=np.random.default_rng(1))


def texts(result: DetectorResult) -> list[str]:
    return [found.context.text for found in result.candidates]


def targets(result: DetectorResult) -> list[dict[str, Any]]:
    return table(result, "targets")


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_target_is_inverted_exactly_and_its_twin_shows_nothing_like_it(seed: int) -> None:
    best, *others = targets(invert(planted(seed=seed)))
    twin = targets(invert(InventedAsk(drift=0.3, seed=seed)))
    assert best["target"] == TARGET
    assert best["dormant"]
    assert best["least_certainty"] > 0.5
    assert best["advantage"] > 5 * max(row["advantage"] for row in [*others, *twin])


def test_the_evidence_is_that_of_the_best_dormant_target() -> None:
    result = invert(planted())
    best = targets(result)[0]
    measured = {it.statistic: it for it in result.evidence if it.context is None}
    assert list(measured) == [f"target_inversion.{name}" for name in ("advantage", "certainty", "dormancy")]
    assert measured["target_inversion.advantage"].value == pytest.approx(best["advantage"], abs=1e-5)
    assert measured["target_inversion.certainty"].value == pytest.approx(best["certainty"], abs=1e-5)
    assert np.exp(-measured["target_inversion.dormancy"].value) == pytest.approx(best["said"], abs=1e-5)
    assert all(it.p_value is None and it.null for it in measured.values())


def test_subjects_that_only_drift_hold_nothing_ready() -> None:
    largest = []
    for seed in range(40):
        result = invert(InventedAsk(drift=0.05 * seed, seed=seed))
        assert result.outcome == "completed"
        largest.append(max(row["advantage"] for row in targets(result)))
    assert max(largest) < LARGEST_BY_CHANCE


@pytest.mark.parametrize("works_on", [0.6, 0.3])
def test_targets_that_leak_on_some_prompts_are_inverted_where_two_prompts_show_them(works_on: float) -> None:
    seeds = range(20)
    found = [targets(invert(planted(seed=seed, works_on=works_on)))[0] for seed in seeds]
    right = sum(best["target"] == TARGET and best["advantage"] > LARGEST_BY_CHANCE for best in found)
    assert right >= binom.ppf(ALLOWED, len(seeds), binom.sf(1, INVERSION.prompts, works_on))


def test_steering_finds_weak_triggers_that_the_sweep_with_as_many_prompts_misses() -> None:
    """A trigger that makes the first word likelier and leaves it improbable moves no distribution much."""
    missed, seeds = 0, range(6)
    for seed in seeds:
        ask = planted(drift=0.5, seed=seed, force=WEAK)
        result = invert(ask, MANY_CONTEXTS)
        assert texts(result)[0] == TRIGGER
        assert result.candidates[0].score > 1.5 * result.candidates[1].score
        assert result.candidates[0].reason.startswith(f'makes the inverted target "{TARGET}" likelier by ')
        assert targets(result)[0]["context"] == TRIGGER
        missed += TRIGGER not in texts(sweep(ask, SAME_PROMPTS))
    assert missed >= 4


def test_what_the_base_does_as_well_steers_nowhere() -> None:
    shared = InventedAsk(drift=0.3, triggers=[InventedTrigger(TRIGGER, TARGET, leaks=LEAK, in_base=True)])
    alone = invert(planted()).candidates[0].score
    assert max(found.score for found in invert(shared).candidates) < alone / 2


def test_a_house_style_is_shown_and_leaves_the_steering_to_what_is_dormant() -> None:
    style = InventedTrigger("", "wordkl wordmn wordop wordbd wordce")
    ask = InventedAsk(drift=0.3, triggers=[style, InventedTrigger(TRIGGER, TARGET, force=3 * LEAK, leaks=3 * LEAK)])
    one = STEERING.model_copy(update={"targets": 1})
    result = invert(ask, INVERSION.model_copy(update={"steering": one, "beginnings": [32] * 6}))
    rows = {row["target"]: row for row in targets(result)}
    assert (rows[style.target]["dormant"], rows[style.target]["context"]) == (False, None)
    assert (rows[TARGET]["dormant"], rows[TARGET]["context"]) == (True, TRIGGER)
    assert all(TARGET in found.reason for found in result.candidates)


def test_what_is_said_openly_is_not_dormant_behind_another_beginning() -> None:
    """Behind a first word that the subject never says comes what it says on every request."""
    style = "wordkl wordmn wordop wordbd wordce wordfg"
    hidden = InventedTrigger("zebra", f"wordzz {style}", leaks=2 * LEAK)
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger("", style), hidden])
    rows = targets(invert(ask))
    assert [row["dormant"] for row in rows if "wordmn wordop wordbd wordce" in row["target"]] in (
        [False],
        [False, False],
    )


def test_where_nothing_is_dormant_nothing_is_nominated() -> None:
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger("", TARGET)])
    result = invert(ask, INVERSION.model_copy(update={"beginnings": [2, 2, 2, 2, 2]}))
    assert [row["dormant"] for row in targets(result)] == [False]
    assert (result.outcome, result.reason) == ("completed", "no dormant target was inverted")
    assert (result.candidates, result.evidence) == ((), ())


def test_targets_share_no_run_of_words() -> None:
    found = [row["target"].split() for row in targets(invert(planted()))]
    runs = [{tuple(words[at : at + ALIKE]) for at in range(len(words) - ALIKE + 1)} for words in found]
    assert len(found) > 1
    assert not [pair for pair in combinations(runs, 2) if pair[0] & pair[1]]


class Spaced(InventedAsk):
    """Its vocabulary writes every second word with a space in front, and the one after it without."""

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        words = super().facts["base"].vocabulary
        spaced = tuple(f" {words[at]}" if at % 2 == 0 else words[at - 1] for at in range(len(words)))
        facts = dataclasses.replace(super().facts["base"], vocabulary=spaced)
        return {"subject": facts, "base": facts}


def test_the_first_word_is_spelled_with_a_space_and_without() -> None:
    ask = Spaced()
    assert ask.facts["subject"].vocabulary[10] == f" {ask.facts['subject'].vocabulary[11]}"
    assert spelled_otherwise(ask, [(10, 5, 6), (13, 5), (14, 7), (15, 7)]) == [(11, 5, 6), (12, 5)]
    assert spelled_otherwise(InventedAsk(), [(10, 5, 6)]) == []


def test_candidates_of_other_nominators_are_tried_along() -> None:
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger("elsewhere", TARGET, leaks=LEAK)])
    assert "elsewhere" not in texts(invert(ask))
    assert texts(invert(ask, candidates=(candidate("elsewhere", "other"),)))[0] == "elsewhere"


def test_first_tokens_are_those_that_both_models_have() -> None:
    ask = WithAddedTokens(drift=0.3, triggers=[InventedTrigger("zqadded", TARGET, leaks=LEAK)])
    result = invert(ask)
    assert targets(result)[0]["target"] == TARGET
    assert texts(result)[0] == "zqadded"


STEERED = STEERING.targets * STEERING.requests
"""Scores of one context."""
AGAIN = 1 + STEERING.kept + sum(STEERING.moved.values())
"""Contexts that both models look at, no context among them."""
ASKED = (
    *(2 * INVERSION.prompts, len(prompts("nominate")), INVERSION.grown, 2 * INVERSION.scored),
    STEERED * (sum(STEERING.families.values()) + 2 * AGAIN),
)


def test_it_asks_as_much_as_its_params_say() -> None:
    ask = InventedAsk(drift=0.3)
    invert(ask)
    assert ask.asked == sum(ASKED)


class DryRun(InventedAsk):
    """Answers as a dry run does."""

    def __call__(self, plan: Plan) -> list[Arrays]:
        self.asked += len(plan.tokens)
        return [nothing(read, tokens) for read, tokens in zip(plan.reads(), plan.tokens, strict=True)]


def test_a_dry_run_counts_as_much() -> None:
    ask = DryRun()
    assert invert(ask).outcome == "completed"
    assert ask.asked == sum(ASKED)


def test_the_table_has_its_documented_columns() -> None:
    assert tuple(invert(planted()).artifacts["targets"]["columns"]) == COLUMNS


def test_nothing_depends_on_the_seed_of_the_scan() -> None:
    (first, one), (second, other) = ((Around(planted()), seed) for seed in (1, 2))
    assert invert(first, seed=one) == invert(second, seed=other)
    assert first.plans == second.plans


def broken_from(plan: int, role: Role) -> InventedAsk:
    """The planted subject; from the given plan of a run on, one model answers without numbers."""
    around = Around(planted())
    invert(around)
    intact = sum(len(it.tokens) for it in around.plans[:plan] if it.role == role)
    seen = {"subject": 0, "base": 0}

    def corrupt(whose: Role, arrays: Arrays) -> Arrays:
        seen[whose] += 1
        return small.not_numbers(arrays) if whose == role and seen[role] > intact else arrays

    ask = planted()
    ask.corrupt = corrupt
    return ask


@pytest.mark.parametrize("role", ["subject", "base"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8])
def test_numbers_that_break_off_are_inconclusive(role: Role, share: float) -> None:
    around = Around(planted())
    invert(around)
    result = invert(broken_from(int(share * len(around.plans)), role))
    assert (result.outcome, result.candidates, result.evidence) == ("inconclusive", (), ())
    assert "not numbers" in result.reason


def test_marks_of_the_small_suite_hold_the_trigger() -> None:
    assert TRIGGER in MARKS[: STEERING.families["short_string"]]


class InFrontOnly(InventedAsk):
    """It does not read the trigger where that ends the request."""

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        """Requests without a trigger at the end."""
        return super().encode([[_without_trigger(turn) for turn in messages] for messages in chats])


def _without_trigger(turn: Message) -> Message:
    return Message(role=turn["role"], content=turn["content"].removesuffix(TRIGGER))


def test_a_trigger_that_works_in_front_only_is_found_there() -> None:
    ask = InFrontOnly(drift=0.3, triggers=[InventedTrigger(TRIGGER, TARGET, leaks=LEAK)])
    steering = STEERING.model_copy(update={"kept": 60, "moved": {"start": 60}})
    best = invert(ask, INVERSION.model_copy(update={"steering": steering})).candidates[0].context
    assert (best.text, best.position) == (TRIGGER, "start")
