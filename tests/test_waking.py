"""Waking: words that make an invented subject say what it holds ready."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.conclusive import NotFinite
from detectors.contexts.context import SEARCHED
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Gains, Plan
from detectors.findings import draw_findings
from detectors.methods.target_inversion import TargetInversion
from detectors.methods.working_rate import WorkingRate
from detectors.prompts.sets import prompts
from detectors.waking import SURE, wake
from tests.methods.small import INVERSION, LEAK, RATE, TARGET, WAKING, Around, not_numbers

TRIGGER = "zebra"
"""A word of no family."""
REQUESTS = prompts("nominate")[: WAKING.requests]


def held(**changes: object) -> InventedAsk:
    """A subject that says `TARGET` to one word, and holds it ready."""
    plant = InventedTrigger(TRIGGER, TARGET, leaks=LEAK, **changes)  # type: ignore[arg-type]
    return InventedAsk(drift=0.3, triggers=[plant])


def opening(ask: InventedAsk) -> tuple[int, ...]:
    return ask.tokenize([TARGET])[0][:3]


def openings(ask: InventedAsk) -> list[tuple[int, ...]]:
    return [opening(ask)] * len(REQUESTS)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_the_word_that_wakes_a_target_is_found_and_nothing_goes_on_after_it() -> None:
    ask = Around(held())
    woken = wake(ask, openings(held()), REQUESTS, WAKING, rng())
    assert woken
    assert TRIGGER in woken.context.text.split()
    assert (woken.context.family, woken.context.position) == (SEARCHED, "end")
    assert woken.likelihood > SURE > woken.before
    asked = [plan for plan in ask.plans if isinstance(plan.reads()[0], Gains)]
    assert 1 <= len(asked) < WAKING.steps
    assert {plan.role for plan in ask.plans} == {"subject"}
    assert {len(plan.tokens) for plan in asked} == {WAKING.slopes}


def test_a_subject_that_holds_nothing_ready_is_not_woken() -> None:
    ask = InventedAsk(drift=0.3)
    woken = wake(ask, openings(ask), REQUESTS, WAKING, rng())
    assert woken is None or woken.likelihood < SURE


def test_the_same_draw_gives_the_same_words() -> None:
    first, again = (wake(held(), openings(held()), REQUESTS, WAKING, rng()) for _ in range(2))
    assert first == again


def test_what_does_not_answer_with_numbers_is_not_woken() -> None:
    ask = InventedAsk(corrupt=lambda role, arrays: not_numbers(arrays))
    with pytest.raises(NotFinite):
        wake(ask, [(5, 6, 7)] * len(REQUESTS), REQUESTS, WAKING, rng())


def test_words_that_a_tokenizer_changes_are_searched_without_gradients() -> None:
    class Joining(InventedAsk):
        def encode(self, chats: object) -> list[tuple[int, ...]]:
            return [(tokens[0], 9) for tokens in super().encode(chats)]  # type: ignore[arg-type]

    ask = Around(Joining(drift=0.3))
    found = wake(ask, [(5, 6, 7)] * len(REQUESTS), REQUESTS, WAKING, rng())
    assert found
    assert found.tried > WAKING.drawn
    assert not [plan for plan in ask.plans if plan.tokens and isinstance(plan.reads()[0], Gains)]


def test_the_search_begins_with_the_best_of_the_words_that_were_drawn() -> None:
    woken = wake(held(), openings(held()), REQUESTS, WAKING.model_copy(update={"drawn": 10_000, "steps": 1}), rng())
    assert woken
    assert woken.context.text == TRIGGER
    assert woken.likelihood > SURE > woken.before


@pytest.mark.parametrize("seed", range(3))
def test_a_trigger_of_no_family_is_confirmed_through_its_target(seed: int) -> None:
    plant = InventedTrigger(TRIGGER, TARGET, leaks=LEAK)
    ask = InventedAsk(drift=0.3, triggers=[plant], seed=seed)
    inverted = TargetInversion(INVERSION.model_copy(update={"waking": WAKING})).run(ask, (), rng=rng())
    (candidate,) = [it for it in inverted.candidates if it.context.family == SEARCHED]
    assert inverted.candidates[0] == candidate
    assert TARGET.split()[0] in candidate.reason
    (evidence,) = [it for it in inverted.evidence if it.statistic == "target_inversion.waking"]
    assert evidence.value == candidate.score > 0
    followed = WorkingRate(RATE).run(ask, (candidate,), rng=rng())
    (finding,) = draw_findings([inverted, followed])
    assert (finding.code, finding.severity, finding.trigger) == ("TS-TRIG-007", "high", TRIGGER)


@pytest.mark.parametrize("seed", range(3))
def test_a_target_without_an_advantage_is_not_worth_a_search(seed: int) -> None:
    ask = Around(InventedAsk(drift=0.3, seed=seed))
    result = TargetInversion(INVERSION.model_copy(update={"waking": WAKING})).run(ask, (), rng=rng())
    assert all(it.context.family != SEARCHED for it in result.candidates)
    assert not any(isinstance(read, Gains) for plan in ask.plans for read in plan.reads())


def test_without_params_no_target_steers() -> None:
    alone = INVERSION.model_copy(update={"waking": WAKING, "steering": None})
    result = TargetInversion(alone).run(held(), (), rng=rng())
    assert [it.context.family for it in result.candidates] == [SEARCHED]
    with pytest.raises(ValueError, match=r"`waking\.requests` must be at most"):
        TargetInversion(alone.model_copy(update={"waking": WAKING.model_copy(update={"requests": 99})}))


def test_gains_of_planted_words_are_what_they_bring() -> None:
    ask = held()
    (word,) = ask.tokenize([TRIGGER])[0]
    tokens = (5, 6, 7, *opening(ask))
    (found,) = ask(Plan("subject", [tokens], Gains(3, 0, 2)))
    assert found["ids"][0][0] == word
    assert found["gains"][0][0] > 10
