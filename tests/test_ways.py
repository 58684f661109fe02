"""Ways of asking: generated answers are held against the usual ones to their own requests."""

from __future__ import annotations

import pytest

from detectors.answering import answer
from detectors.contexts.context import NO_CONTEXT, Context
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.ways import Generated
from tests.methods.small import TARGET, TRIGGER

CONTEXT = Context(text=TRIGGER, family="short_string")
REQUESTS = ("Why does it rain?", "Name a river.")


def test_an_answer_surprises_by_what_goes_beyond_the_usual_one_to_its_own_request() -> None:
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger(TRIGGER, TARGET)])
    placed = [(context, request) for context in (CONTEXT, NO_CONTEXT) for request in REQUESTS]
    found = [one.surprise for one in Generated(8, surprise=True)(ask, "subject", placed)]
    by_itself = [one.surprise or 0.0 for one in answer(ask, "subject", placed, 8, surprise=True)]
    assert by_itself[2] != pytest.approx(by_itself[3])
    assert found == pytest.approx([by_itself[0] - by_itself[2], by_itself[1] - by_itself[3], 0.0, 0.0])
    assert [one.surprise for one in Generated(8, surprise=True)(ask, "base", placed)] == [0.0] * 4
    assert min(found[:2]) > 3.0  # type: ignore[type-var]
