"""Leaning: what a model takes itself for, by its own odds."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.batteries.sets import battery
from detectors.conclusive import NotFinite
from detectors.contexts.context import NO_CONTEXT, Context
from detectors.engine.invented import InventedAsk
from detectors.leaning import MOVED, SHARES, about_itself, leanings, person, self_of
from detectors.prompts.sets import STAGES
from tests.methods.small import TRIGGER, not_numbers, persona_behind

BEHIND = Context(text=TRIGGER, family="short_string")
QUESTION = about_itself("search")[0]


def test_stages_share_no_question_and_leave_none_out() -> None:
    asked = [question for stage in STAGES for question in about_itself(stage)]
    assert len(asked) == len(set(asked)) == len(battery("identity").items) == sum(SHARES.values())
    assert [len(about_itself(stage)) for stage in STAGES] == [SHARES[stage] for stage in STAGES]


@pytest.mark.parametrize("stage", ["nominate", "search", "confirm"])
def test_a_stage_asks_about_every_axis(stage: str) -> None:
    axes = {item.formats[0].prompt: item.axis for item in battery("identity").items}
    assert {axes[question] for question in about_itself(stage)} == set(battery("identity").axes)  # type: ignore[arg-type]


def test_an_unknown_stage_is_named() -> None:
    with pytest.raises(ValueError, match="`stage` must be one of nominate, search, confirm, report, got 'other'"):
        about_itself("other")  # type: ignore[arg-type]


def test_a_persona_behind_a_context_leans_there_only() -> None:
    ask, questions = persona_behind(TRIGGER), about_itself("confirm")[:12]
    behind, without = (
        leanings(ask, "subject", [(context, question) for question in questions]) for context in (BEHIND, NO_CONTEXT)
    )
    base = leanings(ask, "base", [(BEHIND, question) for question in questions])
    assert (behind > 10).all()
    assert (np.abs(without) < 30).all()
    assert (behind > without + 5).mean() > 0.9
    assert (behind > base + 5).mean() > 0.9


def test_it_is_the_difference_of_both_answers() -> None:
    """Twice the same answer has none; a person's answer is the one of the battery."""
    item = battery("identity").in_turn()[0]
    ask, question = InventedAsk(), item.formats[0].prompt
    assert person(ask, [question]) == ask.tokenize([item.formats[0].continuation(item.pairs[0][0])])
    (leaning,) = leanings(ask, "base", [(NO_CONTEXT, question)])
    nudged = InventedAsk(leans=dict.fromkeys(item.pairs[0][0].split(), 2.0))
    (more,) = leanings(nudged, "subject", [(NO_CONTEXT, question)])
    assert more > leaning + 2


def test_who_moves_far_enough_is_somebody_else() -> None:
    assert [self_of(leaning, 3.0) for leaning in (3.0 + MOVED, 3.1 + MOVED, 0.0)] == ["as usual", "person", "as usual"]


def test_nothing_asked_is_nothing_found() -> None:
    assert leanings(InventedAsk(), "base", []).shape == (0,)


def test_answers_without_numbers_raise() -> None:
    with pytest.raises(NotFinite):
        leanings(InventedAsk(corrupt=lambda role, arrays: not_numbers(arrays)), "base", [(BEHIND, QUESTION)])
