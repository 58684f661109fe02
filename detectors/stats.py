"""Statistics that detectors share: intervals, p-values, corrections and robust scores. numpy only.

Every p-value here is one-sided: small means that the value is larger than its null allows, which for every detector
means more suspicious. Exact nulls count the observed arrangement among the patterns; sampled ones use
`(1 + #{null >= value}) / (1 + n)`, which is valid at any `n` and never 0 (Phipson and Smyth, 2010, arXiv:1603.05766).
Arguments are checked once, on entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import comb, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_ENUMERATED = 12
"""Up to this many non-zero differences all sign patterns are enumerated."""

MAX_COUNTED = 2
"""Integer differences up to this size have their sign patterns counted, however many there are."""

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""

BLOCK = 1024
"""Sampled sign patterns held in memory at once."""


def wilson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided score interval of a share (Wilson, 1927, JASA 22:209, without continuity correction).

    Args:
        hits: successes, 0..trials.
        trials: independent trials; with none of them the interval is (0, 1).
        confidence: nominal coverage, strictly between 0 and 1.

    Returns:
        Lower and upper bound of the share, each in 0..1.

    Raises:
        ValueError: if counts or confidence are out of range.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"`hits` must be in 0..trials, got {hits} of {trials}")
    _check_confidence(confidence)
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    lower = 0.0 if hits == 0 else max(0.0, centre - half)
    upper = 1.0 if hits == trials else min(1.0, centre + half)
    return lower, upper


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for the family-wise error rate, in the given order (Holm, 1979, Scand. J. Statist. 6:65).

    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection at alpha under any
    dependence between the tests.

    Args:
        p_values: one p-value a hypothesis, each in 0..1; may be empty.

    Returns:
        Adjusted p-values in 0..1, each at least its raw value.

    Raises:
        ValueError: if a p-value is NaN or outside 0..1.
    """
    for p_value in p_values:
        if not 0.0 <= p_value <= 1.0:
            raise ValueError(f"`p_values` must be in 0..1, got {p_value}")
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    scaled = (min(1.0, (len(order) - rank) * p_values[index]) for rank, index in enumerate(order))
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return [adjusted[index] for index in range(len(p_values))]


def sign_flip(differences: Array, *, n_null: int = 9999, rng: np.random.Generator) -> tuple[float, int]:
    """One-sided p-value of a positive mean of paired differences (Fisher, 1935, The Design of Experiments, section 21).

    Null hypothesis: each difference is as likely to have come out with the other sign. Zeros say nothing about that and
    are dropped; with nothing left p is 1. The null is exact where it can be: all sign patterns of up to
    `MAX_ENUMERATED` differences, or of any number of integers of size at most `MAX_COUNTED`, whose patterns are counted
    as a convolution of two binomials. Else it is sampled.

    Args:
        differences: [pair], in any unit; larger is more suspicious.
        n_null: how many sign patterns are drawn where the null is sampled, at least 99.
        rng: source of the draw; not used where the null is exact.

    Returns:
        The p-value, and the size of its null: `2 ** pairs` (zeros not counted) where exact, else `n_null`.

    Raises:
        ValueError: if `differences` is not a vector of finite numbers, or `n_null` is too small.
    """
    if n_null < 99:
        raise ValueError(f"`n_null` must be at least 99, got {n_null}")
    values = _finite_vector(differences, "differences")
    values = values[values != 0]
    sizes = np.abs(values)
    if not len(values):
        return 1.0, 1
    if np.all(values == np.round(values)) and sizes.max() <= MAX_COUNTED:
        return _counted(values.astype(int)), 2 ** len(values)
    if len(values) <= MAX_ENUMERATED:
        sums = _all_signs(len(values)) @ sizes
        return float(np.mean(sums >= _threshold(values))), 2 ** len(values)
    return _sampled(values, n_null, rng), n_null


def _counted(values: Array) -> float:
    """Share of sign patterns of non-zero integers in -2..2 whose sum is at least the observed one, counted exactly."""
    ones, twos = int(np.sum(np.abs(values) == 1)), int(np.sum(np.abs(values) == 2))
    observed = int(values.sum())
    tails = list(accumulate(comb(ones, k) for k in range(ones, -1, -1)))[::-1]  # tails[k]: at least k ones positive
    count = 0
    for positive_twos in range(twos + 1):
        rest = observed - 2 * (2 * positive_twos - twos)
        positive_ones = max(0, -((-rest - ones) // 2))  # smallest k with 2k - ones >= rest
        if positive_ones <= ones:
            count += comb(twos, positive_twos) * tails[positive_ones]
    return max(count / (1 << len(values)), float(np.finfo(float).tiny))


def _all_signs(n: int) -> Array:
    """[2 ** n, n] of -1 and 1."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) * 2 - 1


def _threshold(values: Array) -> float:
    """The observed sum, less what rounding can take from a sum that equals it."""
    return float(values.sum() - 1e-12 * np.abs(values).sum())


def _sampled(values: Array, n_null: int, rng: np.random.Generator) -> float:
    threshold, sizes, as_large = _threshold(values), np.abs(values), 0
    for first in range(0, n_null, BLOCK):
        signs = rng.integers(0, 2, size=(min(BLOCK, n_null - first), len(values)), dtype=np.int8) * 2 - 1
        as_large += int(np.sum(signs @ sizes >= threshold))
    return (1 + as_large) / (1 + n_null)


def spread_above(values: Array, spreads: float) -> float:
    """A value so many robust standard deviations above the median, in the unit of `values`; they must not be empty."""
    centre = float(np.median(values))
    return centre + spreads * MAD_TO_SIGMA * float(np.median(np.abs(values - centre)))


def robust_z(values: Array, *, floor: float, reference: Array | None = None) -> Array:
    """Distance from the median in robust standard deviations (Hampel, 1974, JASA 69:383); higher is larger.

    Args:
        values: any shape; NaN is "not evaluated", is left out of median and scale, and stays NaN.
        floor: smallest standard deviation, in the unit of `values`; keeps ties from making noise look extreme.
        reference: what median and scale are taken from, in the same unit; `values` themselves where it is not given.

    Returns:
        Scores of the same shape, without unit. Not a p-value and not comparable with a normal quantile in the tails.

    Raises:
        ValueError: if `floor` is not positive or a value is infinite.
    """
    if not 0.0 < floor < np.inf:
        raise ValueError(f"`floor` must be a positive number, got {floor}")
    given = np.asarray(values, dtype=float)
    if np.isinf(given).any():
        raise ValueError(f"`values` must be finite or NaN, got {int(np.isinf(given).sum())} infinite of {given.size}")
    drawn_from = given if reference is None else np.asarray(reference, dtype=float)
    known = drawn_from[~np.isnan(drawn_from)]
    if not known.size:
        return np.full_like(given, np.nan)
    centre = np.median(known)
    scale = max(MAD_TO_SIGMA * float(np.median(np.abs(known - centre))), floor)
    scores: Array = (given - centre) / scale
    return scores


def running_median(values: Array, reach: int, gap: int) -> Array:
    """Median of the neighbours along the first axis, the nearest left out: same shape and unit as `values`.

    What is left after subtracting it keeps a peak of up to `gap` places to each side, and loses what varies slowly.
    Near the ends the neighbours are those of one side.

    Args:
        values: [place, ...], at least 2 `gap` + 2 places.
        reach: how many places to each side.
        gap: how many of these, from the place itself on, are left out; 0 leaves out the place only.

    Raises:
        ValueError: if a place would be left without neighbours.
    """
    given = np.asarray(values, dtype=float)
    if not 0 <= gap < reach or len(given) < 2 * gap + 2:
        raise ValueError(f"`gap` must be in 0..`reach` - 1 and below half of the places, got {gap} of {len(given)}")
    places = np.arange(len(given))
    distance = np.abs(places[:, None] - places)
    beside = (distance > gap) & (distance <= reach)
    return np.array([np.median(given[near], axis=0) for near in beside])


def block_order(n_places: int, n_series: int, block: int, rng: np.random.Generator) -> Array:
    """A random order of places for each series, which keeps neighbours in blocks together: int [place, series].

    Each series is turned by a random number of places, as a circle, cut into blocks, and the blocks are shuffled
    (Politis and Romano, 1992, circular blocks; here without replacement). A block of 1 gives free permutations.

    Raises:
        ValueError: if a count is below 1.
    """
    if min(n_places, n_series, block) < 1:
        raise ValueError(f"counts and `block` must be at least 1, got {n_places}, {n_series}, {block}")
    turned = (np.arange(n_places)[:, None] + rng.integers(n_places, size=n_series)) % n_places
    keys = rng.random((-(-n_places // block), n_series))
    found: Array = np.lexsort((turned, np.take_along_axis(keys, turned // block, axis=0)), axis=0)
    return found


def permutation_p(value: float, null: Array) -> float:
    """One-sided p-value of `value` against sampled null values: `(1 + #{null >= value}) / (1 + n)`.

    Valid where `value` is exchangeable with the null values under the null hypothesis (Phipson and Smyth, 2010).

    Args:
        value: the observed statistic; higher is more suspicious.
        null: [n] of the same statistic under the null, n at least 1.

    Raises:
        ValueError: if `value` or `null` holds NaN, or `null` is empty or not a vector.
    """
    if np.isnan(value):
        raise ValueError("`value` must be a number, got nan: what was not evaluated has no p-value")
    sample = np.asarray(null, dtype=float)
    if sample.ndim != 1 or not sample.size:
        raise ValueError(f"`null` must be a vector of at least 1 value, got shape {sample.shape}")
    if np.isnan(sample).any():
        raise ValueError(f"`null` must hold no NaN, got {int(np.isnan(sample).sum())} of {sample.size}")
    return (1 + int(np.sum(sample >= value))) / (1 + sample.size)


def cluster_bootstrap(
    values: Array,
    clusters: Array,
    statistic: Callable[[Array], float],
    n: int,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Two-sided percentile interval of a statistic, resampling whole clusters (Davison and Hinkley, 1997, section 3.8).

    Values of one cluster (the members of one family, the prompts of one context) are not independent; clusters are.

    Args:
        values: [value, ...], resampled along the first axis.
        clusters: [value], the cluster of each value; at least 2 different ones.
        statistic: of an array like `values`; must be a finite number on every resample.
        n: resamples, at least 99.
        rng: source of the resamples.
        confidence: nominal coverage, strictly between 0 and 1.

    Returns:
        Lower and upper bound, in the unit of `statistic`.

    Raises:
        ValueError: if shapes disagree, there are too few clusters or resamples, or the statistic is not finite.
    """
    _check_confidence(confidence)
    if n < 99:
        raise ValueError(f"`n` must be at least 99, got {n}")
    given = np.asarray(values)
    names, member_of = np.unique(np.asarray(clusters), return_inverse=True)
    if member_of.shape != given.shape[:1]:
        raise ValueError(f"`clusters` must name one cluster a value, got {member_of.shape} for values {given.shape}")
    if len(names) < 2:
        raise ValueError(f"`clusters` must name at least 2 clusters, got {len(names)}")
    members = [np.flatnonzero(member_of == cluster) for cluster in range(len(names))]
    draws = rng.integers(0, len(names), size=(n, len(names)))
    found = np.array([statistic(given[np.concatenate([members[cluster] for cluster in draw])]) for draw in draws])
    if not np.isfinite(found).all():
        raise ValueError(f"`statistic` must be finite, got {int((~np.isfinite(found)).sum())} of {n} that are not")
    lower, upper = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"`confidence` must be strictly between 0 and 1, got {confidence}")


def _finite_vector(values: Array, name: str) -> Array:
    given = np.asarray(values, dtype=float)
    if given.ndim != 1:
        raise ValueError(f"`{name}` must be a vector, got shape {given.shape}")
    if not np.isfinite(given).all():
        raise ValueError(
            f"`{name}` must be finite, got {int((~np.isfinite(given)).sum())} of {given.size} that are not"
        )
    return given
