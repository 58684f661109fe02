"""What the detectors that nominate share: which contexts they look at, and how they compare and choose among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from detectors.contexts.context import Context
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
    """Different texts at the end: those of other nominators, tokens that only the subject has, and what is drawn."""
    shared, own = ask.facts["base"].vocabulary, ask.facts["subject"].vocabulary
    drawn = [context for name, count in families.items() for context in draw(name, count, shared)]
    added = [Context(text=text.strip(), family=ADDED) for text in own[len(shared) :] if text.strip()]
    nominated = [candidate.context.at("end") for candidate in candidates]
    unique: dict[str, Context] = {}
    for context in [*nominated, *added, *drawn]:
        unique.setdefault(context.text, context)
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


def like_lengths(lengths: Array) -> Array:
    """Classes of contexts of like length, `CLASS_SIZE` or more in each: int [context].

    Args:
        lengths: int [context], in tokens.
    """
    return length_classes(lengths, CLASS_SIZE)


def z_within(classes: Array, values: Array, floor: float) -> Array:
    """`mean_z` of each context among those of its class: float [context].

    Args:
        classes: int [context], from `like_lengths`.
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
