"""Grids: readings stay paired and in place, and each reads what it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.conclusive import NotFinite
from detectors.contexts.context import Context, chat
from detectors.engine.compact import Distributions, divergence
from detectors.engine.grid import Grid, length_classes, observe_grid
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Arrays, NextToken, Plan, Role

PROMPTS = ("name three rivers", "explain how rain forms", "what is a prime number")
CONTEXTS = tuple(Context(text=text, family="phrase") for text in ("wordaa", "wordab", "zq7 wordac", "wordad wordae"))
TRIGGERED = 2


def grid(contexts: tuple[Context, ...] = CONTEXTS, prompts: tuple[str, ...] = PROMPTS, **ask: object) -> Grid:
    return observe_grid(InventedAsk(**ask), contexts, prompts, named=(1, 2))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def planted() -> Grid:
    return grid(triggers=[InventedTrigger("zq7", "wordbb")], drift=0.05)


def test_every_cell_is_its_own_request(planted: Grid) -> None:
    ask = InventedAsk(triggers=[InventedTrigger("zq7", "wordbb")], drift=0.05)
    observe_grid(ask, CONTEXTS, PROMPTS, named=(1, 2))
    for row, context in enumerate(CONTEXTS):
        for column, prompt in enumerate(PROMPTS):
            tokens = ask.encode([chat(context, prompt)])
            subject, base = (
                Distributions.stack(ask(Plan(role, tokens, NextToken((1, 2))))) for role in ("subject", "base")
            )
            assert planted.divergence()[row, column] == pytest.approx(divergence(subject, base)[0], abs=1e-9)
            shift = subject.entropy[0] - base.entropy[0]
            assert planted.entropy_shift()[row, column] == pytest.approx(shift, abs=1e-9)
            named = np.exp(subject.named).sum() - np.exp(base.named).sum()
            assert planted.named_shift()[row, column] == pytest.approx(named, abs=1e-9)
        assert planted.lengths[row] == len(ask.encode([chat(context, PROMPTS[0])])[0])


def test_a_trigger_stands_out_in_every_reading(planted: Grid) -> None:
    others = [row for row in range(len(CONTEXTS)) if row != TRIGGERED]
    for reading in (planted.divergence().mean(axis=1), planted.information_lost(), planted.consistency()):
        assert reading.argmax() == TRIGGERED
    assert planted.divergence()[TRIGGERED].min() > 10 * planted.divergence()[others].max()
    assert planted.consistency()[TRIGGERED] > 0.5


def test_the_base_against_itself_shows_nothing() -> None:
    same = grid()
    for reading in (same.divergence(), same.entropy_shift(), same.named_shift(), same.information_lost()):
        np.testing.assert_allclose(reading, 0.0, atol=1e-9)
    np.testing.assert_array_equal(same.consistency(), 0.0)


def test_one_prompt_has_no_consistency() -> None:
    assert np.isnan(grid(prompts=PROMPTS[:1]).consistency()).all()


def test_not_a_number_is_seen() -> None:
    def spoil(role: Role, arrays: Arrays) -> Arrays:
        return arrays | {"entropy": arrays["entropy"] * np.nan} if role == "base" else arrays

    with pytest.raises(NotFinite):
        grid(corrupt=spoil)


@pytest.mark.parametrize(("contexts", "prompts"), [((), PROMPTS), (CONTEXTS, ())])
def test_empty_grids_are_refused(contexts: tuple[Context, ...], prompts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"must not be empty, got {len(contexts)} and {len(prompts)}"):
        grid(contexts, prompts)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 20))
def test_length_classes(lengths: list[int], at_least: int) -> None:
    classes = length_classes(np.array(lengths), at_least)
    pairs = sorted(zip(lengths, classes.tolist(), strict=True))
    assert all(one <= two for (_, one), (_, two) in pairwise(pairs))
    assert all(one == two for (a, one), (b, two) in pairwise(pairs) if a == b)
    sizes = np.bincount(classes)
    assert sizes.min() >= min(at_least, len(lengths))
