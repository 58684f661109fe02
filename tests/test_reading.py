"""Readings: what a context is compared with, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.contexts.context import Context, Position
from detectors.reading import HYPOTHESIS, NEAREST, Measured, Scored, positions_in_turn

FLOOR = 0.01


def contexts(count: int, position: Position = "end") -> list[Context]:
    return [Context(text=f"{position}{at}", family="emoji", position=position) for at in range(count)]


def measured(*groups: tuple[list[Context], float], beyond: str = "") -> Measured:
    """Groups of contexts, each around a value of its own, all of one length."""
    every = tuple(context for group, _ in groups for context in group)
    rng = np.random.default_rng(1)
    values = [level + rng.normal(size=(len(group), 2)) for group, level in groups]
    return Measured(every, np.full(len(every), 9), {"divergence": np.concatenate(values)}, beyond)


def test_a_reference_at_another_position_does_not_count() -> None:
    kept, near, far = contexts(1, "start"), contexts(25, "start")[1:], contexts(40)
    alone = measured((kept, 0.0), (near, 0.0)).against_reference(1, FLOOR)
    among = measured((kept, 0.0), (near, 0.0), (far, 50.0)).against_reference(1, FLOOR)
    assert among.contexts == tuple(kept)
    assert among.scores["divergence"] == pytest.approx(alone.scores["divergence"])
    assert among.compared == len(near)


def test_of_a_large_reference_the_nearest_in_length_count() -> None:
    kept, reference = contexts(1), contexts(80)[1:]
    found = measured((kept, 0.0), (reference, 0.0))
    longer = np.arange(len(found.contexts)) > 40
    found.lengths[longer] = 30
    found.values["divergence"][longer] = 50.0
    reading = found.against_reference(1, FLOOR)
    assert reading.compared == NEAREST
    assert abs(reading.scores["divergence"][0]) < 3


def test_contexts_of_a_grid_are_compared_at_their_position() -> None:
    reading = measured((contexts(60), 0.0), (contexts(20, "system"), 50.0)).against_all(FLOOR)
    assert reading.rank_score().max() < 4
    assert reading.compared == 20


@pytest.mark.parametrize("beyond", ["", " beyond its stronger part"])
def test_a_candidate_says_beyond_what_it_stands_out(beyond: str) -> None:
    found = measured((contexts(1), 9.0), (contexts(30)[1:], 0.0), beyond=beyond)
    (row,) = found.against_reference(1, FLOOR).rows()
    candidate, evidence = row.candidate("sweep"), row.evidence("sweep")
    assert candidate.reason == f"divergence stands out{beyond}, robust z {candidate.score:.1f}"
    assert evidence.null is not None
    assert (evidence.statistic, evidence.null.size, evidence.null.hypothesis) == ("sweep.rank_score", 29, HYPOTHESIS)


def test_parts_are_joined_in_their_order() -> None:
    whole = measured((contexts(4), 0.0), (contexts(3, "start"), 5.0), beyond=" beyond")
    parts = [
        Measured(whole.contexts[part], whole.lengths[part], {"divergence": whole.values["divergence"][part]}, " beyond")
        for part in (slice(0, 3), slice(3, 7))
    ]
    joined = Measured.joined(parts)
    assert (joined.contexts, joined.beyond) == (whole.contexts, whole.beyond)
    np.testing.assert_array_equal(joined.values["divergence"], whole.values["divergence"])


def test_each_position_hands_on_its_best_though_another_scatters_more() -> None:
    wild = [scored(at, "start", 13.0 - at) for at in range(3)]
    quiet = [scored(at, "end", 9.0 - at) for at in range(2)]
    ranked = positions_in_turn([*wild, *quiet])
    assert [(row.context.position, row.rank_score) for row in ranked] == [
        ("start", 13.0),
        ("end", 9.0),
        ("start", 12.0),
        ("end", 8.0),
        ("start", 11.0),
    ]


def test_what_does_not_stand_out_comes_after_all_that_does() -> None:
    loud = [scored(at, "end", 9.0 - at) for at in range(3)]
    silent = [scored(at, "system", 0.9 - 0.1 * at) for at in range(2)]
    assert positions_in_turn([*loud, *silent]) == [*loud, *silent]


def scored(at: int, position: Position, rank_score: float) -> Scored:
    found = measured((contexts(1, position), 9.0), (contexts(30, position)[1:], 0.0))
    (row,) = found.against_reference(1, FLOOR).rows()
    return replace(row, context=contexts(at + 1, position)[at], rank_score=rank_score)
