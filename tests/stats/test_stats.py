"""Statistics against second implementations, their calibration under the null, and their power."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from detectors.stats import cluster_bootstrap, holm, permutation_p, robust_z, sign_flip, wilson

probabilities = st.floats(min_value=0.0, max_value=1.0)
small_integers = st.lists(st.integers(min_value=-2, max_value=2), min_size=1, max_size=12)
finite = st.floats(min_value=-1e3, max_value=1e3)
eighths = st.integers(min_value=-8000, max_value=8000).map(lambda number: number / 8)  # their sums do not round


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# wilson


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 1), (0, 24), (3, 24), (24, 24), (500, 1000)])
def test_wilson_agrees_with_scipy(hits: int, trials: int, confidence: float) -> None:
    expected = scipy_stats.binomtest(hits, trials).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson(hits, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_no_trials_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilson_holds_the_observed_share(hits: int, misses: int) -> None:
    lower, upper = wilson(hits, hits + misses)
    assert 0.0 <= lower <= upper <= 1.0
    if hits + misses:
        assert lower <= hits / (hits + misses) <= upper


def test_wilson_covers_the_true_share() -> None:
    hits = rng().binomial(24, 0.3, size=4000)
    covered = [low <= 0.3 <= high for low, high in (wilson(int(count), 24) for count in hits)]
    assert 0.93 <= np.mean(covered) <= 0.99


# holm


def holm_by_closed_testing(p_values: list[float]) -> list[float]:
    """Largest Bonferroni p-value over all families that hold the hypothesis."""
    everyone = range(len(p_values))
    families = [family for size in range(1, len(p_values) + 1) for family in combinations(everyone, size)]
    bonferroni = {family: min(1.0, len(family) * min(p_values[index] for index in family)) for family in families}
    return [max(p for family, p in bonferroni.items() if index in family) for index in everyone]


@given(st.lists(probabilities, max_size=7))
def test_holm_is_the_closed_bonferroni_test(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(holm_by_closed_testing(p_values))


@given(st.lists(probabilities, min_size=1, max_size=40), st.randoms())
def test_holm_keeps_order_and_follows_permutation(p_values: list[float], random: object) -> None:
    adjusted = dict(zip(p_values, holm(p_values), strict=True))
    shuffled = list(p_values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert holm(shuffled) == [adjusted[p_value] for p_value in shuffled]
    assert all(raw <= adjusted[raw] <= 1.0 for raw in p_values)


def test_holm_keeps_the_family_wise_error_rate() -> None:
    families = rng().uniform(size=(2000, 12))
    rejected = [min(holm(family.tolist())) <= 0.05 for family in families]
    assert 0.035 <= np.mean(rejected) <= 0.065


# sign_flip


def sign_flip_by_enumeration(differences: list[float]) -> float:
    """Share of all sign patterns of the non-zero differences whose mean is at least the observed one."""
    informative = [difference for difference in differences if difference]
    observed = sum(informative)
    patterns = list(product((-1, 1), repeat=len(informative)))
    sums = [sum(s * abs(d) for s, d in zip(signs, informative, strict=True)) for signs in patterns]
    return float(np.mean([total >= observed - 1e-9 for total in sums]))


@given(small_integers)
def test_counted_patterns_are_enumerated_patterns(differences: list[int]) -> None:
    p_value, size = sign_flip(np.array(differences), rng=rng())
    assert p_value == pytest.approx(sign_flip_by_enumeration(differences), rel=1e-12)
    assert size == 2 ** np.count_nonzero(differences)


@settings(max_examples=30)
@given(st.lists(eighths, min_size=1, max_size=9))
def test_few_real_differences_are_enumerated(differences: list[float]) -> None:
    p_value, _ = sign_flip(np.array(differences), rng=rng())
    assert p_value == sign_flip_by_enumeration(differences)


def test_agrees_with_scipy() -> None:
    differences = rng(3).normal(0.4, 1.0, size=10)
    expected = scipy_stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="greater"
    )
    assert sign_flip(differences, rng=rng())[0] == pytest.approx(expected.pvalue)


def test_sampled_null_comes_close_to_the_counted_one() -> None:
    integers = rng(4).integers(-2, 3, size=40) + rng(5).integers(0, 2, size=40)
    integers = np.clip(integers, -2, 2)
    exact, _ = sign_flip(integers, rng=rng())
    sampled, size = sign_flip(integers * 1.5, n_null=9999, rng=rng())  # halves are not integers: the null is drawn
    assert size == 9999
    assert sampled == pytest.approx(exact, abs=0.02)


def test_forty_agreeing_pairs_are_worth_forty_coins() -> None:
    assert sign_flip(np.ones(40), rng=rng()) == (2.0**-40, 2**40)
    assert sign_flip(np.full(40, 2), rng=rng())[0] == 2.0**-40
    assert sign_flip(-np.ones(40), rng=rng())[0] == 1.0


def test_very_many_agreeing_pairs_never_reach_zero() -> None:
    assert 0.0 < sign_flip(np.ones(3000), rng=rng())[0] < 1e-300


def test_zeros_carry_no_information() -> None:
    informative = np.array([1, 1, -1, 2, 1])
    padded = np.concatenate([np.zeros(100), informative])
    assert sign_flip(padded, rng=rng()) == sign_flip(informative, rng=rng())
    assert sign_flip(np.zeros(50), rng=rng()) == (1.0, 1)
    assert sign_flip(np.array([]), rng=rng()) == (1.0, 1)


def test_same_seed_same_p_value() -> None:
    differences = rng(6).normal(0.2, 1.0, size=30)
    assert sign_flip(differences, rng=rng(7)) == sign_flip(differences, rng=rng(7))


@pytest.mark.parametrize("n_pairs", [8, 30])
def test_real_differences_have_uniform_p_values_under_the_null(n_pairs: int) -> None:
    draw = rng(8)
    p_values = [sign_flip(draw.standard_t(3, size=n_pairs), n_null=199, rng=draw)[0] for _ in range(2000)]
    for alpha in (0.01, 0.05, 0.1, 0.5):
        allowed = 4 * np.sqrt(alpha * (1 - alpha) / 2000) + 1 / 2**8
        assert np.mean(np.array(p_values) <= alpha) == pytest.approx(alpha, abs=allowed)


def test_integer_differences_never_reject_too_often() -> None:
    draw = rng(9)
    differences = draw.choice([-2, -1, 0, 1, 2], p=[0.05, 0.15, 0.6, 0.15, 0.05], size=(2000, 24))
    p_values = np.array([sign_flip(row, rng=draw)[0] for row in differences])
    for alpha in (0.01, 0.05, 0.1):
        assert np.mean(p_values <= alpha) <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 2000)


def test_power_against_a_trigger_that_works_half_the_time() -> None:
    draw = rng(10)
    differences = draw.binomial(1, 0.5, size=(500, 24)) - draw.binomial(1, 0.02, size=(500, 24))
    rejected = [sign_flip(row, rng=draw)[0] <= 0.01 / 5 for row in differences]
    assert np.mean(rejected) >= 0.75


@given(small_integers)
def test_a_larger_difference_is_never_less_suspicious(differences: list[int]) -> None:
    raised = [*differences[:-1], 2] if differences[-1] else differences
    assert sign_flip(np.array(raised), rng=rng())[0] <= sign_flip(np.array(differences), rng=rng())[0] + 1e-12


@pytest.mark.parametrize(
    ("differences", "n_null", "message"),
    [
        ([1.0], 20, "`n_null` must be at least 99, got 20"),
        ([1.0, np.nan], 99, "`differences` must be finite, got 1 of 2"),
        ([[1.0]], 99, r"`differences` must be a vector, got shape \(1, 1\)"),
    ],
)
def test_sign_flip_says_what_was_wrong(differences: list[float], n_null: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sign_flip(np.array(differences), n_null=n_null, rng=rng())


# robust_z


@given(st.lists(finite, min_size=1, max_size=60))
def test_robust_z_agrees_with_scipy(values: list[float]) -> None:
    array = np.array(values)
    spread = max(1.4826 * scipy_stats.median_abs_deviation(array), 0.1)
    assert robust_z(array, floor=0.1) == pytest.approx((array - np.median(array)) / spread)


def test_robust_z_is_a_z_score_of_normal_values() -> None:
    scores = robust_z(rng().normal(5.0, 3.0, size=20_000), floor=1e-6)
    assert np.std(scores) == pytest.approx(1.0, abs=0.03)


def test_robust_z_finds_the_outlier_and_keeps_what_was_not_evaluated() -> None:
    scores = robust_z(np.array([1.0, 1.1, np.nan, 0.9, 9.0]), floor=0.05)
    assert np.isnan(scores[2])
    assert np.nanargmax(scores) == 4
    assert scores[4] > 20
    assert np.isnan(robust_z(np.full((2, 3), np.nan), floor=1.0)).all()


def test_the_floor_keeps_ties_quiet() -> None:
    assert robust_z(np.array([0.0] * 50 + [1e-9]), floor=0.01).max() < 1e-6


def test_robust_z_says_what_was_wrong() -> None:
    with pytest.raises(ValueError, match="`floor` must be a positive number, got 0"):
        robust_z(np.ones(3), floor=0)
    with pytest.raises(ValueError, match="1 infinite of 2"):
        robust_z(np.array([np.inf, 0.0]), floor=1)


# permutation_p


@given(finite, st.lists(finite, min_size=1, max_size=50))
def test_permutation_p_counts(value: float, null: list[float]) -> None:
    expected = (1 + len([drawn for drawn in null if drawn >= value])) / (1 + len(null))
    assert permutation_p(value, np.array(null)) == expected


def test_permutation_p_is_uniform_under_the_null() -> None:
    draws = rng().normal(size=(2000, 100))
    p_values = [permutation_p(row[0], row[1:]) for row in draws]
    assert scipy_stats.kstest(p_values, "uniform").statistic < 0.045


@pytest.mark.parametrize(
    ("value", "null", "message"),
    [
        (np.nan, [1.0], "`value` must be a number, got nan"),
        (1.0, [np.nan, 1.0], "`null` must hold no NaN, got 1 of 2"),
        (1.0, [], "at least 1 value"),
    ],
)
def test_permutation_p_says_what_was_wrong(value: float, null: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        permutation_p(value, np.array(null))


# cluster_bootstrap


def test_one_value_a_cluster_is_the_plain_bootstrap() -> None:
    values = rng(1).normal(size=60)
    low, high = cluster_bootstrap(values, np.arange(60), np.mean, 4000, rng(2))
    expected = scipy_stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=rng(3))
    assert (low, high) == pytest.approx(expected.confidence_interval, abs=0.02)


def test_copies_of_a_value_add_no_certainty() -> None:
    values = rng(4).normal(size=30)
    clusters = np.arange(30)
    once = cluster_bootstrap(values, clusters, np.mean, 1000, rng(5))
    thrice = cluster_bootstrap(np.repeat(values, 3), np.repeat(clusters, 3), np.mean, 1000, rng(5))
    assert thrice == pytest.approx(once)


def test_clustered_values_are_covered() -> None:
    draw = rng(6)
    clusters = np.repeat(np.arange(25), 4)
    covered = []
    for _ in range(200):
        values = np.repeat(draw.normal(size=25), 4) + 0.3 * draw.normal(size=100)
        low, high = cluster_bootstrap(values, clusters, np.mean, 199, draw)
        covered.append(low <= 0.0 <= high)
    assert 0.87 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize(
    ("clusters", "n", "message"),
    [
        ([0, 1, 2], 20, "`n` must be at least 99, got 20"),
        ([0, 1], 99, "one cluster a value"),
        ([0, 0, 0], 99, "at least 2 clusters, got 1"),
    ],
)
def test_cluster_bootstrap_says_what_was_wrong(clusters: list[int], n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_bootstrap(np.arange(3.0), np.array(clusters), np.mean, n, rng())


def test_cluster_bootstrap_refuses_a_statistic_that_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="`statistic` must be finite"):
        cluster_bootstrap(np.arange(3.0), np.arange(3), lambda _: float("nan"), 99, rng())


def test_holm_and_wilson_say_what_was_wrong() -> None:
    with pytest.raises(ValueError, match=r"`p_values` must be in 0..1, got nan"):
        holm([0.1, float("nan")])
    with pytest.raises(ValueError, match=r"`hits` must be in 0..trials, got 3 of 2"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="`confidence` must be strictly between 0 and 1, got 95"):
        wilson(1, 2, 95)
