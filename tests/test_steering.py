"""Steering: which contexts an invented subject's held answers lead to."""

from __future__ import annotations

import pytest

from detectors.conclusive import NotFinite
from detectors.contexts.context import Context
from detectors.contexts.families import draw
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Role
from detectors.steering import Called, steer
from detectors.suites import SteeringParams
from tests.methods.small import LEAK, TARGET, not_numbers

OTHER = "wordkl wordmn wordop wordbd wordce"
CONTEXTS = draw("short_string", 60, ())
FIRST, SECOND = CONTEXTS[7].text, CONTEXTS[21].text
PARAMS = SteeringParams(targets=2, families={}, requests=2, kept=20, moved={}, nominated=4)


def subject(*more: InventedTrigger, **changes: object) -> InventedAsk:
    """It holds two answers ready, each called by a text of its own, the second less surely."""
    triggers = [
        InventedTrigger(FIRST, TARGET, leaks=LEAK, **changes),  # type: ignore[arg-type]
        InventedTrigger(SECOND, OTHER, leaks=LEAK, force=LEAK, **changes),  # type: ignore[arg-type]
    ]
    return InventedAsk(drift=0.3, triggers=[*triggers, *more])


def called(ask: InventedAsk, contexts: list[Context] = CONTEXTS, params: SteeringParams = PARAMS) -> list[Called]:
    return steer(ask, [tokens[:3] for tokens in ask.tokenize([TARGET, OTHER])], contexts, params)


def test_each_answer_nominates_in_turn_what_calls_it_loudest() -> None:
    found = called(subject())
    assert found
    assert [(it.context.text, it.target) for it in found[:2]] == [(FIRST, 0), (SECOND, 1)]
    assert [it.target for it in found] == [0, 1, 0, 1]
    assert found[0].raised > found[2].raised
    assert found[1].raised > 2 * abs(found[3].raised)


def test_an_answer_that_is_likelier_everywhere_leaves_room_for_the_other() -> None:
    everywhere = InventedTrigger("", TARGET.split()[0], force=LEAK, stops=False)
    found = called(subject(everywhere), params=PARAMS.model_copy(update={"kept": 4}))
    assert found
    assert (SECOND, 1) in [(it.context.text, it.target) for it in found]


def test_a_text_is_handed_on_once_wherever_it_was_tried() -> None:
    found = called(subject(), params=PARAMS.model_copy(update={"moved": {"start": 20, "inside": 20}}))
    assert found
    assert len({it.context.text for it in found}) == len(found) == PARAMS.nominated


def test_what_is_moved_is_tried_there_and_where_it_belongs() -> None:
    ask = subject()
    params = PARAMS.model_copy(update={"kept": 10, "moved": {"start": 4, "system": 3}})
    assert called(ask, params=params)
    first, second = 2 * 2 * len(CONTEXTS), 2 * 2 * (1 + 10 + 4 + 3)
    assert ask.asked == first + 2 * second


def test_a_base_that_is_moved_as_well_raises_nothing() -> None:
    found, both = called(subject()), called(subject(in_base=True))
    assert found
    assert both
    assert both[0].raised < found[0].raised / 2


def test_nothing_is_asked_without_answers_or_contexts() -> None:
    ask = subject()
    assert steer(ask, [], CONTEXTS, PARAMS) == []
    assert called(ask, []) == []
    assert ask.asked == 0


@pytest.mark.parametrize("role", ["subject", "base"])
def test_a_model_without_numbers_steers_nowhere(role: Role) -> None:
    ask = subject()
    ask.corrupt = lambda whose, arrays: not_numbers(arrays) if whose == role else arrays
    with pytest.raises(NotFinite):
        called(ask)
