"""Triggers with a structure: two texts that only work together, and the mere length of a request.

Neither is read as it is. A pair counts by what it does beyond its stronger part, compared with random pairs, so a
trigger that needs no other part gives no pairs. Filler counts by what it does beyond the fillers that are short enough
to be its controls, compared with the steps from each length to the next: what grows slowly with the length is in every
step. So the best is where something works and its controls do not reach, not where it begins to work now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import TypeVar

import numpy as np

from detectors.contexts.context import Context, Position, joined
from detectors.contexts.families import FAMILIES, FILLER_LENGTHS, filler
from detectors.engine.observations import Array, Ask
from detectors.reading import Measured, Reading, observe

T = TypeVar("T")
PAIRED_AT: tuple[Position, ...] = ("start", "end")
"""Where the first part of a pair stands; the second stands at the end."""
BEYOND_CONTROLS = " beyond shorter fillers"
FILLER = "filler"
"""Family whose texts differ in length by purpose."""


def read_pairs(
    ask: Ask, best: Sequence[Context], drawn: Sequence[Context], prompts: Sequence[str], place: Position, floor: float
) -> Reading:
    """Texts with each other, in both orders, against random pairs.

    Args:
        ask: answers observations.
        best: what is tried as pairs.
        drawn: contexts drawn at random; each makes a pair with the next.
        prompts: what the pairs are put around.
        place: where the first of two stands; the second stands at the end.
        floor: smallest spread that a z divides by, in the unit of the statistic.
    """
    tried = list(permutations(best, 2))
    both = [*tried, *zip(drawn, [*drawn[1:], *drawn[:1]], strict=True)]
    pairs = [joined((one.at(place), other.at("end"))) for one, other in both]
    parts = list(dict.fromkeys(part for pair in pairs for part in pair.parts))
    asked = Measured.of(observe(ask, [*pairs, *parts], prompts))
    values = {name: _beyond_parts(table, pairs, parts) for name, table in asked.values.items()}
    measured = Measured(tuple(pairs), asked.lengths[: len(pairs)], values, " beyond its stronger part")
    return measured.against_reference(len(tried), floor)


def read_lengths(ask: Ask, wordings: int, prompts: Sequence[str], floor: float) -> Reading:
    """Filler of every length but the shortest, beyond those that could be its controls, against steps of the length.

    Args:
        ask: answers observations.
        wordings: how many wordings of filler are tried.
        prompts: what they are put in front of.
        floor: smallest spread that a z divides by, in the unit of the statistic.
    """
    contexts = fillers(wordings)
    values = {
        name: np.concatenate([beyond_controls(table, wordings), steps(table, wordings)])
        for name, table in Measured.of(observe(ask, contexts, prompts)).values.items()
    }
    longer = tuple(all_but_shortest(contexts))
    any_length = np.zeros(2 * len(longer), int)  # all lengths are compared with all steps
    return Measured((*longer, *longer), any_length, values, BEYOND_CONTROLS).against_reference(len(longer), floor)


def fillers(wordings: int) -> list[Context]:
    """Filler of every length, wording by wording, the shortest first."""
    texts = [text for wording in range(wordings) for text in filler(wording)]
    return [Context(text=text, family=FILLER, position=FAMILIES[FILLER].position) for text in texts]


def all_but_shortest(of_each: Sequence[T]) -> list[T]:
    """What belongs to fillers that have a shorter one, of what there is of each in the order of `fillers`."""
    return [it for place, it in enumerate(of_each) if place % len(FILLER_LENGTHS)]


def different_lengths(contexts: Sequence[Context], scores: Sequence[float]) -> list[int]:
    """Places of fillers, the largest score first, of those that could be each other's controls.

    Others are too near in length to say anything of their own: they are left out.

    Args:
        contexts: fillers.
        scores: higher is better.
    """
    chosen: list[int] = []
    for place in sorted(range(len(contexts)), key=lambda place: -scores[place]):
        length = len(contexts[place].text)
        if all(_one_controls_the_other(length, len(contexts[other].text)) for other in chosen):
            chosen.append(place)
    return chosen


def _one_controls_the_other(length: int, other: int) -> bool:
    return min(length, other) <= FAMILIES[FILLER].longest_control * max(length, other)


def _beyond_parts(table: Array, pairs: Sequence[Context], parts: Sequence[Context]) -> Array:
    """What each pair has beyond the part that has more: float [pair, prompt].

    Args:
        table: a statistic of all pairs and then of all parts, float [pair + part, prompt].
        pairs: the pairs.
        parts: their parts.
    """
    place = {part: len(pairs) + at for at, part in enumerate(parts)}
    stronger = table[[[place[part] for part in pair.parts] for pair in pairs]].max(axis=1)  # [pair, 2, prompt]
    beyond: Array = table[: len(pairs)] - stronger
    return beyond


def beyond_controls(table: Array, wordings: int) -> Array:
    """What each filler but the shortest has beyond the mean of its possible controls: float [wording x step, prompt].

    Args:
        table: a statistic, float [wording x length, prompt].
        wordings: how many there are.
    """
    longest = FAMILIES[FILLER].longest_control
    short = [sum(words <= longest * length for words in FILLER_LENGTHS) for length in FILLER_LENGTHS[1:]]
    by_length = table.reshape(wordings, len(FILLER_LENGTHS), -1)  # [wording, length, prompt]
    beyond = [by_length[:, at] - by_length[:, :count].mean(axis=1) for at, count in enumerate(short, start=1)]
    stacked: Array = np.stack(beyond, axis=1).reshape(-1, table.shape[1])
    return stacked


def steps(table: Array, wordings: int) -> Array:
    """What each filler but the shortest has beyond the next shorter: float [wording x step, prompt].

    Args:
        table: a statistic, float [wording x length, prompt].
        wordings: how many there are.
    """
    by_length = table.reshape(wordings, len(FILLER_LENGTHS), -1)  # [wording, length, prompt]
    return np.diff(by_length, axis=1).reshape(-1, table.shape[1])
