"""Arithmetic on compact next-token distributions.

A compact distribution keeps the `TOP` most probable tokens and one bucket for the rest (see `observations.NextToken`).
Whatever is computed on it is computed on a coarsened alphabet, so by the data-processing inequality a divergence is
never overstated: `divergence` is a lower bound, and `divergence_slack` bounds from above what it can miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from detectors.engine.observations import Array, Arrays

TINY = 1e-12


@dataclass(frozen=True)
class Distributions:
    """Many compact distributions.

    Attributes:
        ids: int [row, top], -1 where the vocabulary is smaller than `top`.
        logp: float64 [row, top], natural logarithms.
        rest: float64 [row], log mass of all other tokens.
        floor: float64 [row], smallest log-probability over the vocabulary.
        entropy: float64 [row], exact, in nats.
        named: float64 [row, name], log-probabilities of named tokens.
    """

    ids: Array
    logp: Array
    rest: Array
    floor: Array
    entropy: Array
    named: Array

    @classmethod
    def stack(cls, observations: Sequence[Arrays]) -> Self:
        """One row an observation of kind `next_token`."""
        columns = {name: np.stack([observed[name] for observed in observations]) for name in observations[0]}
        wide = {name: column.astype(np.float64) for name, column in columns.items() if name != "ids"}
        single = {name: wide[name][:, 0] for name in ("rest", "floor", "entropy")}
        return cls(ids=columns["ids"], logp=wide["logp"], named=wide["named"], **single)

    def finite(self) -> bool:
        """Whether every probability is a number."""
        return not (np.isnan(self.logp).any() or np.isnan(self.entropy).any())


def divergence(subject: Distributions, base: Distributions) -> Array:
    """KL(subject || base) on the coarsened alphabet: float [row], nats, at least 0, a lower bound of the exact value.

    The alphabet of a row is the tokens both keep, and one bucket of all others.
    """
    both = _meet(subject, base)
    kept = np.isfinite(both.subject) & np.isfinite(both.base)
    difference = np.where(kept, np.subtract(both.subject, both.base, where=kept, out=np.zeros_like(both.base)), 0.0)
    inside = (np.exp(both.subject) * difference).sum(axis=1)
    outside = both.subject_other * (np.log(both.subject_other) - np.log(both.base_other))
    found: Array = np.maximum(inside + outside, 0.0)
    return found


def divergence_slack(subject: Distributions, base: Distributions) -> Array:
    """How far `divergence` can be below the exact KL: float [row], nats.

    The gap is the subject's unshared mass times the divergence inside that bucket. Inside it the subject is at most its
    largest unshared log-probability and the base at least its floor; both are known.
    """
    both = _meet(subject, base)
    unshared = np.where(np.isfinite(both.subject), -np.inf, subject.logp)
    largest = np.maximum(unshared.max(axis=1), subject.logp[:, -1])
    inside = (largest - np.log(both.subject_other)) - (base.floor - np.log(both.base_other))
    slack: Array = both.subject_other * np.maximum(inside, 0.0)
    return slack


def information(distributions: Distributions, groups: Array) -> Array:
    """H(mean of p) - mean of H(p) within each group: float [group], nats, at least 0.

    With one group a context and one row a prompt this is the information that the prompt carries about the first
    answer token; a trigger with a fixed target drives it to zero (the idea of STRIP, Gao et al. 2019).

    Args:
        distributions: one row a (context, prompt).
        groups: int [row], from 0 without gaps.
    """
    found = np.empty(int(groups.max()) + 1)
    for group in range(len(found)):
        rows = np.flatnonzero(groups == group)
        table = dense(distributions, rows)
        found[group] = _entropy(table.mean(axis=0)) - np.mean([_entropy(row) for row in table])
    return np.maximum(found, 0.0)


def divergence_from_mean(distributions: Distributions, groups: Array) -> Array:
    """KL(p || mean of p over its group): float [row], nats, at least 0. Its mean over a group is `information`.

    Args:
        distributions: one row a (context, prompt).
        groups: int [row], from 0 without gaps; with a group for each prompt the mean is over contexts.
    """
    found = np.empty(len(groups))
    for group in range(int(groups.max()) + 1):
        rows = np.flatnonzero(groups == group)
        table = dense(distributions, rows)
        ratio = np.log(np.maximum(table, TINY)) - np.log(np.maximum(table.mean(axis=0), TINY))
        found[rows] = (table * ratio).sum(axis=1)
    return np.maximum(found, 0.0)


def dense(distributions: Distributions, rows: Array) -> Array:
    """Probabilities of `rows` on the tokens that any of them keeps: float [row, token + 1]; the last is the rest."""
    return _table(distributions.ids[rows], distributions.logp[rows])


def entropy_of_mean(ids: Array, logp: Array) -> float:
    """Entropy of the mean of distributions of which the most probable tokens are known: nats, nearly.

    Taken on the tokens that any of them keeps and one bucket for the rest. Merging tokens lowers an entropy; but what a
    row gives to a token that only others keep falls into the bucket too, which may raise it. With r the mean mass
    outside of what is kept and h the binary entropy, it is off by at most r ln(vocabulary) + h(r) (Audenaert, 2007,
    arXiv:quant-ph/0610146).

    Args:
        ids: int [row, top], -1 where the vocabulary is smaller than `top`.
        logp: float [row, top], natural logarithms.
    """
    return _entropy(_table(ids, logp.astype(np.float64)).mean(axis=0))


def _table(ids: Array, logp: Array) -> Array:
    """Probabilities [row, token + 1] from ids and log-probabilities [row, top]; the last is the rest."""
    columns, place = np.unique(ids, return_inverse=True)
    table = np.zeros((len(ids), len(columns) + 1))
    np.add.at(table, (np.arange(len(ids))[:, None], place.reshape(ids.shape)), np.where(ids >= 0, np.exp(logp), 0.0))
    table[:, -1] = np.clip(1.0 - table.sum(axis=1), 0.0, 1.0)
    return table


def _entropy(probabilities: Array) -> float:
    kept = probabilities[probabilities > 0]
    return float(-(kept * np.log(kept)).sum())


@dataclass(frozen=True)
class _Met:
    """Two distributions on their coarsened alphabet, row by row.

    Attributes:
        subject, base: float [row, top], log-probabilities of the tokens that both keep, in the subject's order; minus
            infinity elsewhere.
        subject_other, base_other: float [row], mass of all other tokens. Summed from what is small: one minus the rest
            would be rounding error where they hold next to nothing, and its logarithm a divergence out of nothing.
    """

    subject: Array
    base: Array
    subject_other: Array
    base_other: Array


def _meet(subject: Distributions, base: Distributions) -> _Met:
    width = int(max(subject.ids.max(), base.ids.max())) + 2
    row = np.arange(len(base.ids))[:, None] * width
    base_keys = (row + base.ids + 1).ravel()
    order = np.argsort(base_keys, kind="stable")
    subject_keys = (row + subject.ids + 1).ravel()
    place = order[np.minimum(np.searchsorted(base_keys[order], subject_keys), len(base_keys) - 1)]
    found = (base_keys[place] == subject_keys) & (subject.ids >= 0).ravel()
    base_found = np.zeros(base.ids.size, bool)
    base_found[place[found]] = True
    shared = found.reshape(subject.ids.shape)
    return _Met(
        subject=np.where(shared, subject.logp, -np.inf),
        base=np.where(shared, base.logp.ravel()[place].reshape(shared.shape), -np.inf),
        subject_other=_other(subject, shared),
        base_other=_other(base, base_found.reshape(base.ids.shape)),
    )


def _other(distributions: Distributions, shared: Array) -> Array:
    """Mass outside of what is shared: float [row], at least `TINY`, so that it has a logarithm."""
    mass = np.exp(distributions.rest) + np.where(shared, 0.0, np.exp(distributions.logp)).sum(axis=1)
    found: Array = np.clip(mass, TINY, 1.0)
    return found
