"""Grids: contexts x prompts, observed on both models. Most detectors are readings of one.

Whatever a reading returns is an array [context, prompt] or [context]; nothing is averaged before it is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.conclusive import NotFinite
from detectors.contexts.context import Context, chat
from detectors.engine.compact import Distributions, dense, divergence, divergence_from_mean, information
from detectors.engine.observations import ROLES, Array, Ask, NextToken, Plan, Tokens

SMALLEST_CHANGE = 1e-3
"""Length of a probability change below which it has no direction worth comparing: rounding makes such changes."""


@dataclass(frozen=True)
class Grid:
    """First-answer-token distributions of both models on every (context, prompt).

    Attributes:
        contexts: the rows.
        n_prompts: the columns.
        lengths: int [context], tokens of the request with the first prompt.
        subject, base: one row a (context, prompt), contexts outermost.
    """

    contexts: tuple[Context, ...]
    n_prompts: int
    lengths: Array
    subject: Distributions
    base: Distributions

    def divergence(self) -> Array:
        """KL(subject || base), nats: float [context, prompt]."""
        return self._shape(divergence(self.subject, self.base))

    def entropy_shift(self) -> Array:
        """Entropy of the subject minus the base's, nats: float [context, prompt]."""
        return self._shape(self.subject.entropy - self.base.entropy)

    def named_shift(self) -> Array:
        """Probability of the named tokens, subject minus base: float [context, prompt]."""
        subject, base = (np.exp(side.named).sum(axis=1) for side in (self.subject, self.base))
        return self._shape(subject - base)

    def information_lost(self) -> Array:
        """How much less the prompt says about the first token in the subject than in the base, nats: [context]."""
        groups = np.repeat(np.arange(len(self.contexts)), self.n_prompts)
        return information(self.base, groups) - information(self.subject, groups)

    def response(self, n_tried: int = 0) -> tuple[Array, Array]:
        """How far a model's answer depends on the context, whatever it says on the whole.

        It is the KL of each context's distribution from the mean over contexts at the same position, in nats: subject's
        and base's [context, prompt].

        Args:
            n_tried: so many contexts, the first, are no part of that mean.
        """
        positions = np.unique([context.position for context in self.contexts], return_inverse=True)[1]
        groups = (positions[:, None] * self.n_prompts + np.arange(self.n_prompts)).ravel()
        groups = np.unique(groups, return_inverse=True)[1]
        reference = np.repeat(np.arange(len(self.contexts)) >= n_tried, self.n_prompts)
        subject, base = (
            self._shape(divergence_from_mean(side, groups, reference)) for side in (self.subject, self.base)
        )
        return subject, base

    def consistency(self) -> Array:
        """Mean cosine between prompts of the change from base to subject: float [context], -1..1.

        The change is of probabilities on the tokens that either model keeps. One prompt gives NaN.
        """
        found = np.full(len(self.contexts), np.nan)
        for place in range(len(self.contexts) if self.n_prompts > 1 else 0):
            rows = np.arange(place * self.n_prompts, (place + 1) * self.n_prompts)
            found[place] = _mean_cosine(_change(self.subject, self.base, rows))
        return found

    def _shape(self, values: Array) -> Array:
        return values.reshape(len(self.contexts), self.n_prompts)


def observe_grid(ask: Ask, contexts: Sequence[Context], prompts: Sequence[str], named: Tokens) -> Grid:
    """Asks both models for every (context, prompt).

    Raises:
        ValueError: if there are no contexts or no prompts.
        NotFinite: if a model does not answer with numbers.
    """
    if not contexts or not prompts:
        raise ValueError(f"`contexts` and `prompts` must not be empty, got {len(contexts)} and {len(prompts)}")
    sequences = ask.encode([chat(context, prompt) for context in contexts for prompt in prompts])
    sides = [Distributions.stack(ask(Plan(role, sequences, NextToken(named)))) for role in ROLES]
    if not all(side.finite() for side in sides):
        raise NotFinite
    lengths = np.array([len(sequences[place * len(prompts)]) for place in range(len(contexts))])
    return Grid(tuple(contexts), len(prompts), lengths, subject=sides[0], base=sides[1])


def length_classes(lengths: Array, at_least: int) -> Array:
    """Classes of similar length, each with `at_least` members where there are as many: int [context].

    Members of equal length are never parted.
    """
    counts = {int(length): int((lengths == length).sum()) for length in np.unique(lengths)}
    label, filled, classes = 0, 0, {}
    for length, count in counts.items():
        if filled >= at_least:
            label, filled = label + 1, 0
        classes[length] = label
        filled += count
    if filled < at_least and label > 0:
        classes = {length: min(found, label - 1) for length, found in classes.items()}
    return np.array([classes[int(length)] for length in lengths])


def _change(subject: Distributions, base: Distributions, rows: Array) -> Array:
    """Probability changes on common columns: float [row, token]."""
    both = Distributions(
        *(
            np.concatenate([getattr(subject, name)[rows], getattr(base, name)[rows]])
            for name in ("ids", "logp", "rest", "floor", "entropy", "named")
        )
    )
    table = dense(both, np.arange(2 * len(rows)))
    return table[: len(rows)] - table[len(rows) :]


def _mean_cosine(changes: Array) -> float:
    norms = np.linalg.norm(changes, axis=1)
    if (norms < SMALLEST_CHANGE).any():
        return 0.0
    unit = changes / norms[:, None]
    pairs = len(changes) * (len(changes) - 1)
    return float(((unit @ unit.T).sum() - len(changes)) / pairs)
