"""Arithmetic on compact next-token distributions.

A compact distribution keeps the `TOP` most probable tokens and one bucket for the rest (see `observations.NextToken`).
A token that is not kept is at most as probable as the last one that is, so a divergence is bounded from below without
it: `divergence` is that bound, and `divergence_slack` bounds from above what it can miss.
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

    def last(self) -> Array:
        """The least log-probability that is kept: float [row]. No token that is not kept has a larger one."""
        kept: Array = np.where(np.isfinite(self.logp), self.logp, np.inf).min(axis=1)
        return kept

    def finite(self) -> bool:
        """Whether every probability is a number."""
        return not (np.isnan(self.logp).any() or np.isnan(self.entropy).any())


def divergence(subject: Distributions, base: Distributions) -> Array:
    """A lower bound of KL(subject || base), at least 0: float [row], nats.

    Tokens that both keep count exactly. What the base does not keep is bounded in two ways, and the larger counts: as
    one bucket (the data-processing inequality), or token by token, each at most as probable for the base as the last
    that it keeps. An answer that the base would never give is seen by the second only.
    """
    both = _meet(subject, base)
    kept = np.isfinite(both.subject)
    inside = _weighted(both.subject, both.base, kept)
    bucket = both.subject_other * (np.log(both.subject_other) - np.log(both.base_other))
    at_most = np.minimum(base.last(), np.log(both.base_other))[:, None]
    unshared = _weighted(subject.logp, at_most, ~kept & np.isfinite(subject.logp))
    rest = np.where(np.isfinite(subject.rest), subject.rest, 0.0) - np.log(both.base_other)
    by_token = unshared + np.exp(subject.rest) * rest
    found: Array = np.maximum(inside + np.maximum(bucket, by_token), 0.0)
    return found


def divergence_slack(subject: Distributions, base: Distributions) -> Array:
    """How far `divergence` can be below the exact KL: float [row], nats.

    The gap is the subject's unshared mass times the divergence inside that bucket. Inside it the subject is at most its
    largest unshared log-probability and the base at least its floor; both are known.
    """
    both = _meet(subject, base)
    unshared = np.where(np.isfinite(both.subject), -np.inf, subject.logp)
    largest = np.maximum(unshared.max(axis=1), subject.last())
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


def divergence_from_mean(distributions: Distributions, groups: Array, reference: Array | None = None) -> Array:
    """KL(p || mean of p over its group): float [row], nats, at least 0. Its mean over a group is `information`.

    Args:
        distributions: one row a (context, prompt).
        groups: int [row], from 0 without gaps; with a group for each prompt the mean is over contexts.
        reference: bool [row], which rows the mean is taken over; a row that is none of them is counted along with them
            for itself, so that no divergence exceeds the logarithm of their number. All rows if it is None.
    """
    found = np.empty(len(groups))
    counted = np.ones(len(groups), bool) if reference is None else reference
    for group in range(int(groups.max()) + 1):
        rows = np.flatnonzero(groups == group)
        found[rows] = _from_mean(distributions.ids[rows], distributions.logp[rows], counted[rows])
    return np.maximum(found, 0.0)


def _from_mean(ids: Array, logp: Array, reference: Array) -> Array:
    """KL of each row from the mean of the reference and itself: float [row], nats.

    Args:
        ids: int [row, top], -1 where the vocabulary is smaller than `top`.
        logp: float [row, top], natural logarithms.
        reference: bool [row].
    """
    columns, place = np.unique(ids, return_inverse=True)
    place = place.reshape(ids.shape)
    kept = np.where(ids >= 0, np.exp(logp), 0.0)
    rest = np.clip(1.0 - kept.sum(axis=1), 0.0, 1.0)
    sums = np.bincount(place[reference].ravel(), weights=kept[reference].ravel(), minlength=len(columns))
    itself = ~reference[:, None]
    count = reference.sum() + itself
    of_kept, of_rest = (sums[place] + itself * kept) / count, (rest[reference].sum() + ~reference * rest) / count[:, 0]
    inside = kept * (np.log(np.maximum(kept, TINY)) - np.log(np.maximum(of_kept, TINY)))
    outside = rest * (np.log(np.maximum(rest, TINY)) - np.log(np.maximum(of_rest, TINY)))
    found: Array = inside.sum(axis=1) + outside
    return found


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


def _weighted(subject: Array, base: Array, where: Array) -> Array:
    """Sum of p_subject (log p_subject - log p_base) over the tokens told: float [row]."""
    ratio = np.subtract(subject, base, where=where, out=np.zeros(where.shape))
    found: Array = (np.exp(np.where(where, subject, -np.inf)) * ratio).sum(axis=1)
    return found


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
