"""What the detectors that nominate share: which contexts they look at, and how they compare and choose among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from detectors.contexts.context import Context, Position
from detectors.contexts.families import draw
from detectors.engine.grid import length_classes
from detectors.engine.observations import Array, Ask
from detectors.findings import Candidate
from detectors.stats import robust_z

CLASS_SIZE = 50
"""Contexts of like length that a context is compared with, at least."""
ADDED = "added_token"
"""Family of tokens that the subject has and the base lacks."""


def contexts_to_try(ask: Ask, families: Mapping[str, int], candidates: Sequence[Candidate]) -> list[Context]:
    """Different contexts: what is drawn, each where its family belongs, and at the end what only the subject has.

    That is the tokens that the base lacks, and the texts of other nominators but for those of two parts.
    """
    shared, own = ask.facts["base"].vocabulary, ask.facts["subject"].vocabulary
    drawn = [context for name, count in families.items() for context in draw(name, count, shared)]
    added = [Context(text=text.strip(), family=ADDED) for text in own[len(shared) :] if text.strip()]
    nominated = [candidate.context.at("end") for candidate in candidates if not candidate.context.parts]
    unique: dict[tuple[str, Position], Context] = {}
    for context in [*nominated, *added, *drawn]:
        unique.setdefault((context.text, context.position), context)
    return list(unique.values())


def mean_z(values: Array, reference: Array, floor: float) -> Array:
    """Robust z for each prompt, averaged over prompts: float [context]. Takes out what a prompt does by itself.

    Args:
        values: float [context, prompt].
        reference: float [context, prompt], what they are compared with.
        floor: smallest spread that a z divides by, in the unit of the values.
    """
    columns = [robust_z(values[:, at], floor=floor, reference=reference[:, at]) for at in range(values.shape[1])]
    mean: Array = np.mean(columns, axis=0)
    return mean


def like_contexts(contexts: Sequence[Context], lengths: Array) -> Array:
    """Classes of contexts at the same position and of like length: int [context].

    A class has `CLASS_SIZE` members or more, where the position has as many.

    Args:
        contexts: the contexts.
        lengths: int [context], in tokens.
    """
    positions = np.array([context.position for context in contexts])
    classes = np.empty(len(contexts), int)
    count = 0
    for position in dict.fromkeys(positions.tolist()):
        there = positions == position
        classes[there] = count + length_classes(lengths[there], CLASS_SIZE)
        count = 1 + int(classes[there].max())
    return classes


def z_within(classes: Array, values: Array, floor: float) -> Array:
    """`mean_z` of each context among those of its class: float [context].

    Args:
        classes: int [context], from `like_contexts`.
        values: float [context, prompt].
        floor: smallest spread that a z divides by, in the unit of the values.
    """
    scores = np.empty(len(values))
    for label in np.unique(classes):
        members = classes == label
        scores[members] = mean_z(values[members], values[members], floor)
    return scores


def rms_of_positive(scores: Sequence[Array]) -> Array:
    """Root mean square of the positive z of several statistics: float [context]. Any one that is large makes it so."""
    score: Array = np.sqrt(np.mean([np.maximum(each, 0.0) ** 2 for each in scores], axis=0))
    return score


def without_overlaps(texts: Sequence[str], count: int) -> list[int]:
    """Places of the first `count` texts, leaving out those that contain an earlier one: they would be shrunk to it."""
    chosen: list[int] = []
    for place, text in enumerate(texts):
        if len(chosen) == count:
            break
        if not any(texts[better] in text for better in chosen):
            chosen.append(place)
    return chosen
