"""Following: whether the base finds answers likelier under a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from detectors.answering import matched
from detectors.conclusive import NotFinite
from detectors.contexts.context import Context
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Arrays, Plan, Score
from detectors.following import READ_ANSWERS, READ_TOKENS, lift
from detectors.prompts.sets import prompts
from tests.methods.small import TARGET, TRIGGER, not_numbers


@dataclass
class Leaning(InventedAsk):
    """A base that finds each token of an answer likelier under the trigger, by so much on each request in turn."""

    by: Sequence[float] = (1.0,)

    def __call__(self, plan: Plan) -> list[Arrays]:
        assert plan.role == "base"
        self.asked += len(plan.tokens)
        return [
            {"logp": np.full(read.n_tokens, self.by[at % len(self.by)] if self._id(TRIGGER) in tokens else 0.0)}
            for at, (tokens, read) in enumerate(zip(plan.tokens, plan.reads(), strict=True))
            if isinstance(read, Score)
        ]


def lifted(ask: InventedAsk, answer: str = TARGET, text: str = TRIGGER, count: int = 6) -> float | None:
    context = Context(text=text, family="short_string")
    controlled = matched(context, prompts("confirm")[:count], ask.facts["base"].vocabulary)
    return lift(ask, context, controlled, ask.tokenize([answer] * count))


def test_it_is_what_the_text_adds_to_the_answers() -> None:
    assert lifted(Leaning(by=[0.7])) == pytest.approx(0.7)
    assert lifted(Leaning(by=[-0.7])) == pytest.approx(-0.7)


def test_it_is_two_standard_errors_below_the_mean() -> None:
    by = [0.2, 0.4, 0.9]
    assert lifted(Leaning(by=by), count=3) == pytest.approx(np.mean(by) - 2 * np.std(by, ddof=1) / np.sqrt(3))


def test_a_base_that_reacts_to_the_text_lifts_the_answers() -> None:
    """Beyond one that does not, by what its reaction adds to the next word, less what it takes from itself."""
    reacts, not_at_all = (
        lifted(InventedAsk(triggers=[InventedTrigger(TRIGGER, TARGET, in_base=in_base, force=3.0)]))
        for in_base in (True, False)
    )
    assert reacts is not None
    assert not_at_all is not None
    assert 2.0 < reacts - not_at_all < 3.5


def test_words_that_the_text_holds_do_not_count() -> None:
    ask = Leaning()
    assert lifted(ask, text=f"{TRIGGER} {TARGET}") is None
    assert lifted(ask, text=f"{TRIGGER} {TARGET.split()[0]}") == pytest.approx(1.0)


def test_the_beginnings_of_some_answers_are_read() -> None:
    ask = Leaning(by=[1.0] * READ_ANSWERS + [50.0] * 9)
    long = " ".join([TARGET, *(f"wordaa{at}" for at in range(40))])
    assert lifted(ask, answer=long, count=READ_ANSWERS + 9) == pytest.approx(1.0)
    assert ask.asked == 2 * READ_ANSWERS
    noisy = InventedAsk()
    assert lifted(noisy, answer=long) == lifted(noisy, answer=" ".join(long.split()[:READ_TOKENS]))


def test_less_than_two_answers_have_no_lift() -> None:
    assert lifted(Leaning(), count=1) is None
    assert lift(Leaning(), Context(text=TRIGGER, family="short_string"), [], []) is None


def test_a_base_without_numbers_raises() -> None:
    with pytest.raises(NotFinite):
        lifted(InventedAsk(corrupt=lambda role, arrays: not_numbers(arrays) if role == "base" else arrays))
