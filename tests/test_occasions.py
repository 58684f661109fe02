"""Occasions: what ordinary requests call of an invented subject, and what that makes of words that were searched."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.behaviour import plain
from detectors.contexts.context import SEARCHED, Context
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.findings import Candidate, draw_findings
from detectors.methods.working_rate import WorkingRate
from detectors.occasions import called_by
from tests.methods.small import LEAK, RATE, TARGET
from tests.test_holding import Occasional

WORDS = "zebra"


def subject(kind: type[InventedAsk]) -> InventedAsk:
    """It says a fixed answer behind one word."""
    return kind(drift=0.3, triggers=[InventedTrigger(WORDS, TARGET, leaks=LEAK)])


class Leaky(Occasional):
    """It says the target to three of the four requests only."""

    called = 3


def test_those_kinds_are_named_of_which_every_request_calls_it() -> None:
    assert called_by(subject(InventedAsk), plain(TARGET), 8) == {}
    assert called_by(subject(Leaky), plain(TARGET), 8) == {}
    called = called_by(subject(Occasional), plain(TARGET), 8)
    assert {name: (it.hits, it.trials) for name, it in called.items()} == {"medicine": (4, 4)}


@pytest.mark.parametrize(
    ("kind", "family", "occasions", "finding"),
    [
        (InventedAsk, SEARCHED, [], ("TS-TRIG-007", "high")),
        (Occasional, SEARCHED, ["medicine"], ("TS-TRIG-007", "medium")),
        (Occasional, "short_string", [], ("TS-TRIG-001", "high")),
    ],
)
def test_what_an_occasion_calls_makes_searched_words_no_trigger(
    kind: type[InventedAsk], family: str, occasions: list[str], finding: tuple[str, str]
) -> None:
    words = Candidate(context=Context(text=WORDS, family=family), score=1.0, source="other", reason="")
    result = WorkingRate(RATE).run(subject(kind), (words,), rng=np.random.default_rng(1))
    (confirmed,) = result.confirmations
    assert list(confirmed.occasions) == occasions
    (found,) = draw_findings([result])
    assert (found.code, found.severity) == finding
