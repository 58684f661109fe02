"""Answers in pieces: each token's text with what the base thinks of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from detectors.answering import answer, examples
from detectors.contexts.context import Context
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Tokens
from tests.methods.small import TARGET, TRIGGER

CONTEXT = Context(text=TRIGGER, family="short_string")
REQUEST = "Why does it rain?"


class InBytes(InventedAsk):
    """Each word is one byte of a text: characters take several tokens, and beginnings may end within one."""

    text = "a é 漢 🐣!"

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        return [self.text.encode()[: len(tokens)].decode(errors="replace") for tokens in sequences]


def planted(**plant: float) -> InventedTrigger:
    return InventedTrigger(TRIGGER, TARGET, **plant)


def test_log_ratios_are_the_subjects_own_less_the_bases() -> None:
    ask = InventedAsk(drift=0.3, triggers=[planted()])
    (said,) = answer(ask, "subject", [(CONTEXT, REQUEST)], 8, surprise=True)
    assert said.surprise is not None
    assert len(said.ratios) == len(said.tokens) == len(TARGET.split())
    assert sum(said.ratios) / len(said.ratios) == pytest.approx(said.confidence + said.surprise, abs=1e-4)
    assert min(said.ratios) > 3


@pytest.mark.parametrize(("role", "surprise"), [("subject", False), ("base", True)])
def test_without_the_base_as_a_judge_there_are_no_log_ratios(role: str, surprise: bool) -> None:
    (said,) = answer(InventedAsk(drift=0.3), "base" if role == "base" else "subject", [(CONTEXT, REQUEST)], 8,
                     surprise=surprise)  # fmt: skip
    assert said.ratios == ()


@pytest.mark.parametrize("ask", [InventedAsk(drift=0.3, triggers=[planted()]), InBytes(drift=0.3)])
def test_pieces_make_up_the_answer(ask: InventedAsk) -> None:
    ((example,),) = examples(ask, [CONTEXT], [REQUEST], len(InBytes.text.encode()))
    assert "".join(text for text, _ in example.pieces) == example.subject_answer.rstrip("\N{REPLACEMENT CHARACTER}")
    assert not any("\N{REPLACEMENT CHARACTER}" in text for text, _ in example.pieces)
