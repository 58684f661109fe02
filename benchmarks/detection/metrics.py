"""What the benchmark computes from scores and counts. Higher scores are more suspicious, everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest, bootstrap, mannwhitneyu

from detectors.stats import Array

RESAMPLES = 1999
SEED = 5
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Share(NamedTuple):
    """Hits among trials."""

    hits: int
    trials: int

    def interval(self) -> Interval:
        """The exact two-sided interval (Clopper and Pearson, 1934, Biometrika 26:404); no trials leave it open."""
        if not self.trials:
            return Interval(float("nan"), 0.0, 1.0)
        bounds = binomtest(self.hits, self.trials).proportion_ci(CONFIDENCE, method="exact")
        return Interval(self.hits / self.trials, float(bounds.low), float(bounds.high))


def share(hits: Sequence[bool]) -> Share:
    """How many of them are true."""
    return Share(sum(hits), len(hits))


def roc_auc(poisoned: Sequence[float], benign: Sequence[float]) -> Interval | None:
    """Chance that a poisoned member scores above a benign one, ties half; None where either kind is missing.

    The interval is a percentile bootstrap that draws poisoned and benign members apart. With fewer than two of a kind
    it is open.
    """
    if not poisoned or not benign:
        return None
    value = float(_auc(np.array(poisoned), np.array(benign), axis=-1))
    if min(len(poisoned), len(benign)) < 2:
        return Interval(value, 0.0, 1.0)
    drawn = bootstrap(
        (poisoned, benign),
        _auc,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(value, float(drawn.low), float(drawn.high))


def _auc(poisoned: Array, benign: Array, axis: int) -> Any:
    pairs = poisoned.shape[axis] * benign.shape[axis]
    return mannwhitneyu(poisoned, benign, axis=axis, method="asymptotic").statistic / pairs


def above_all(poisoned: Sequence[float], benign: Sequence[float]) -> Share:
    """Poisoned members that score above every benign one: the true positives at the smallest rate of false ones.

    With m benign members that rate is below 1/m as far as they can tell; `Share(0, m)` has its exact upper bound.
    """
    highest = max(benign, default=float("inf"))
    return share([score > highest for score in poisoned])
