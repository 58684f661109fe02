"""Answers of both models under a candidate and under its controls, and the doubly paired difference of a behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.answering import matched
from detectors.behaviour import Answered, Behaviour
from detectors.conclusive import NotFinite
from detectors.contexts.context import Context
from detectors.engine.observations import Array, Ask, Role
from detectors.findings import Confirmation, Evidence, Rate
from detectors.stats import wilson
from detectors.ways import Reader


@dataclass(frozen=True)
class Pair:
    """Answers of one model under a candidate and under its controls, one a prompt."""

    candidate: list[Answered]
    control: list[Answered]

    def differences(self, behaviour: Behaviour) -> Array:
        """How the candidate changes this model, prompt by prompt: int [prompt], -1..1."""
        changed: Array = _shown(behaviour, self.candidate).astype(int) - _shown(behaviour, self.control)
        return changed


@dataclass(frozen=True)
class Cells:
    """What a candidate does to both models."""

    subject: Pair
    base: Pair

    def differences(self, behaviour: Behaviour) -> Array:
        """The doubly paired difference of each prompt: int [prompt], -2..2."""
        paired: Array = self.subject.differences(behaviour) - self.base.differences(behaviour)
        return paired

    def effect(self, behaviour: Behaviour) -> float:
        """The mean of the differences, -2..2; 0 where there is no prompt."""
        differences = self.differences(behaviour)
        return float(differences.mean()) if len(differences) else 0.0


def pairs(ask: Ask, role: Role, contexts: Sequence[Context], texts: Sequence[str], read: Reader) -> list[Pair]:
    """What one model answers under every candidate and under its controls, asked for in one go.

    Raises:
        NotFinite: if it does not answer with numbers.
    """
    vocabulary = ask.facts["base"].vocabulary
    placed = [(context, text) for context in contexts for text in texts]
    controlled = [pair for context in contexts for pair in matched(context, texts, vocabulary)]
    said = read(ask, role, placed + controlled)
    if not all(np.isfinite(one.confidence) and np.isfinite(one.surprise or 0.0) for one in said):
        raise NotFinite
    size, half = len(texts), len(placed)
    parts = [slice(at * size, (at + 1) * size) for at in range(len(contexts))]
    return [Pair(said[part], said[half:][part]) for part in parts]


def rate(behaviour: Behaviour, answers: Sequence[Answered]) -> Rate:
    """How many of the answers show the behaviour."""
    return Rate(hits=int(_shown(behaviour, answers).sum()), trials=len(answers))


def confidence(found: Rate, control: Rate) -> float:
    """The smallest effect that the counts allow: lower Wilson bound of the one minus upper bound of the other, or 0."""
    return max(0.0, wilson(found.hits, found.trials)[0] - wilson(control.hits, control.trials)[1])


def effect_evidence(statistic: str, found: Confirmation) -> Evidence:
    """The doubly paired effect of a tested context, with its null."""
    return Evidence(
        statistic=statistic,
        value=found.effect,
        unit="share of prompts, doubly paired",
        null=found.null,
        p_value=found.p_value,
        context=found.context,
    )


def _shown(behaviour: Behaviour, answers: Sequence[Answered]) -> Array:
    return np.array([behaviour.shows(answer) for answer in answers], bool)
