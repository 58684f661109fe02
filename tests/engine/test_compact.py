"""Arithmetic on compact distributions against the same arithmetic on whole ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detectors.engine.compact import (
    Distributions,
    dense,
    divergence,
    divergence_from_mean,
    divergence_slack,
    entropy_of_mean,
    information,
)
from detectors.engine.invented import _compact, _trace
from detectors.engine.observations import TOP, TRACE_TOP, Array

ROUNDING = 2e-5
"""Stored log-probabilities are float32."""


def whole(seed: int, rows: int, vocab: int, spread: float) -> Array:
    """Log-probabilities float64 [row, vocab], flat to sharp."""
    logits = spread * np.random.default_rng(seed).standard_normal((rows, vocab))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def compact(logp: Array, named: tuple[int, ...] = ()) -> Distributions:
    return Distributions.stack([_compact(row, named) for row in logp])


def exact_divergence(subject: Array, base: Array) -> Array:
    return np.asarray((np.exp(subject) * (subject - base)).sum(axis=1))


def entropy(probabilities: Array) -> Array:
    positive = np.where(probabilities > 0, probabilities, 1.0)
    return np.asarray(-(probabilities * np.log(positive)).sum(axis=-1))


PAIRS = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from([TOP + 1, TOP + 40, 2 * TOP, 1500]),
    st.floats(0.0, 8.0),
    st.floats(0.0, 8.0),
    st.floats(0.0, 1.0),
)


@given(PAIRS)
@example((0, 257, 0.0, 5.0, 0.0))  # the base's one token outside holds less than rounding takes from the rest
def test_divergence_and_slack_enclose_the_exact_value(drawn: tuple[int, int, float, float, float]) -> None:
    seed, vocab, spread, drift, kinship = drawn
    subject = whole(seed, 3, vocab, spread)
    mixed = kinship * subject + whole(seed + 1, 3, vocab, drift)
    base = mixed - np.logaddexp.reduce(mixed, axis=1, keepdims=True)
    exact = exact_divergence(subject, base)
    below = divergence(compact(subject), compact(base))
    slack = divergence_slack(compact(subject), compact(base))
    allowed = ROUNDING * (1 + exact)
    assert (below >= 0).all()
    assert (slack >= 0).all()
    assert (below <= exact + allowed).all()
    assert (below + slack >= exact - allowed).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 6.0), st.sampled_from([3, 40, TOP]))
def test_a_small_vocabulary_loses_nothing(seed: int, spread: float, vocab: int) -> None:
    subject, base = whole(seed, 4, vocab, spread), whole(seed + 1, 4, vocab, spread)
    exact = exact_divergence(subject, base)
    np.testing.assert_allclose(divergence(compact(subject), compact(base)), exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(divergence_slack(compact(subject), compact(base)), 0.0, atol=1e-4)


def test_no_divergence_from_itself() -> None:
    same = compact(whole(0, 20, 900, 3.0))
    np.testing.assert_allclose(divergence(same, same), 0.0, atol=1e-9)


def test_tops_that_share_nothing() -> None:
    """Each token is at most as probable for the base as the last that it keeps."""
    logits = np.zeros((1, 3 * TOP))
    logits[0, :TOP] = 9.0
    subject = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    base = np.roll(subject, TOP, axis=1)
    below, slack = divergence(compact(subject), compact(base)), divergence_slack(compact(subject), compact(base))
    exact = exact_divergence(subject, base)
    assert below[0] + slack[0] >= exact[0] - ROUNDING
    assert below[0] <= exact[0] + ROUNDING


def test_an_answer_that_the_base_would_never_give_is_seen() -> None:
    """All of the subject's mass is on a token that the base does not keep: one bucket would show hardly any."""
    rank = np.arange(3 * TOP)
    base = -0.01 * rank[None, :] - np.logaddexp.reduce(-0.01 * rank)
    subject = np.where(rank == 3 * TOP - 1, 0.0, -30.0)[None, :]
    subject = subject - np.logaddexp.reduce(subject, axis=1, keepdims=True)
    below, exact = divergence(compact(subject), compact(base)), exact_divergence(subject, base)
    assert below[0] <= exact[0] + ROUNDING
    assert below[0] >= -base[0, TOP - 1] - ROUNDING
    assert below[0] > 5


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 6.0), st.sampled_from([5, 60, TOP]))
def test_divergence_from_the_mean_of_a_small_vocabulary_is_exact(seed: int, spread: float, vocab: int) -> None:
    logp = whole(seed, 8, vocab, spread)
    groups, reference = np.repeat([0, 1], 4), np.array([0, 1, 1, 1, 1, 1, 0, 0], bool)
    wanted = []
    for row in range(8):
        counted = (groups == groups[row]) & reference
        counted[row] = True
        mean = np.log(np.exp(logp[counted]).mean(axis=0))
        wanted.append(float((np.exp(logp[row]) * (logp[row] - mean)).sum()))
    found = divergence_from_mean(compact(logp), groups, reference)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 8.0))
def test_the_mean_divergence_from_the_mean_is_the_information(seed: int, spread: float) -> None:
    rows, groups = compact(whole(seed, 6, 700, spread)), np.array([0, 1, 0, 1, 1, 0])
    apart = divergence_from_mean(rows, groups)
    found = [apart[groups == group].mean() for group in range(2)]
    np.testing.assert_allclose(found, information(rows, groups), atol=1e-8)


@given(st.integers(0, 2**32 - 1), st.sampled_from([10, TOP, 1500]), st.floats(0.0, 8.0))
def test_entropy_and_named_are_those_of_the_whole_distribution(seed: int, vocab: int, spread: float) -> None:
    logp = whole(seed, 3, vocab, spread)
    named = (vocab - 1, 0)
    found = compact(logp, named)
    np.testing.assert_allclose(found.entropy, entropy(np.exp(logp)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.named, logp[:, list(named)], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.floor, logp.min(axis=1), rtol=1e-5, atol=1e-5)
    assert found.finite()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 6.0), st.sampled_from([5, 60, TOP]))
def test_information_of_a_small_vocabulary_is_exact(seed: int, spread: float, vocab: int) -> None:
    logp = whole(seed, 9, vocab, spread)
    groups = np.repeat(np.arange(3), 3)
    probabilities = np.exp(logp)
    wanted = [
        entropy(probabilities[groups == group].mean(axis=0)) - entropy(probabilities[groups == group]).mean()
        for group in range(3)
    ]
    np.testing.assert_allclose(information(compact(logp), groups), wanted, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 8.0))
def test_information_matches_a_dense_table_of_kept_tokens(seed: int, spread: float) -> None:
    vocab = 700
    logp = whole(seed, 6, vocab, spread)
    groups = np.array([0, 1, 0, 1, 1, 0])
    rows = compact(logp)
    wanted = []
    for group in range(2):
        table = np.zeros((3, vocab + 1))
        for place, row in enumerate(np.flatnonzero(groups == group)):
            table[place, rows.ids[row]] = np.exp(rows.logp[row])
            table[place, vocab] = max(0.0, 1.0 - table[place, :vocab].sum())
        wanted.append(max(0.0, float(entropy(table.mean(axis=0)) - entropy(table).mean())))
    np.testing.assert_allclose(information(rows, groups), wanted, atol=1e-9)


def test_a_fixed_answer_leaves_no_information() -> None:
    same = np.repeat(whole(1, 1, 600, 3.0), 4, axis=0)
    different = whole(2, 4, 600, 6.0)
    found = information(compact(np.concatenate([same, different])), np.repeat([0, 1], 4))
    assert found[0] == pytest.approx(0.0, abs=1e-9)
    assert found[1] > 0.5


def test_dense_rows_are_distributions() -> None:
    rows = compact(whole(3, 5, 800, 2.0))
    table = dense(rows, np.array([4, 0]))
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)
    assert table.shape[1] <= 2 * TOP + 1


def test_not_a_number_is_seen() -> None:
    logp = whole(0, 2, 400, 1.0)
    logp[1] = np.nan
    assert not compact(logp).finite()


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, TRACE_TOP, TRACE_TOP + 1, 400]), st.floats(0.0, 8.0))
def test_the_entropy_of_a_mean_is_as_near_as_it_says(seed: int, vocab: int, spread: float) -> None:
    logp = whole(seed, 5, vocab, spread)
    kept = _trace(logp)
    found = entropy_of_mean(kept["ids"], kept["logp"])
    missing = min(max(float(1 - np.exp(kept["logp"].astype(float)).sum(axis=1).mean()), 0.0), 1.0)
    allowed = missing * np.log(vocab) + float(entropy(np.array([missing, 1 - missing])))
    assert abs(found - float(entropy(np.exp(logp).mean(axis=0)))) <= allowed + ROUNDING * 10
    union = sorted(set(kept["ids"].ravel().tolist()) - {-1})
    table = np.zeros((5, len(union) + 1))
    for row, (ids, values) in enumerate(zip(kept["ids"], kept["logp"], strict=True)):
        for token, value in zip(ids, values, strict=True):
            if token >= 0:
                table[row, union.index(token)] = np.exp(value)
        table[row, -1] = max(0.0, 1 - table[row].sum())
    assert found == pytest.approx(float(entropy(table.mean(axis=0))), abs=ROUNDING)
