from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.detection.metrics import Share, above_all, roc_auc, share


def test_auc_counts_pairs_and_halves_ties() -> None:
    found = roc_auc([3.0, 1.0], [1.0, 0.0])
    assert found is not None
    assert found.value == (1 + 1 + 0.5 + 1) / 4


def test_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    poisoned, benign = (rng.integers(0, 6, size).astype(float).tolist() for size in (13, 17))
    found = roc_auc(poisoned, benign)
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score([1] * 13 + [0] * 17, poisoned + benign))
    assert found.low < found.value < found.high


def test_auc_of_parted_scores_has_no_spread() -> None:
    assert roc_auc([2.0, 3.0], [0.0, 1.0]) == (1.0, 1.0, 1.0)


def test_auc_is_the_same_every_time() -> None:
    assert roc_auc([1.0, 5.0, 3.0], [2.0, 0.0, 4.0]) == roc_auc([1.0, 5.0, 3.0], [2.0, 0.0, 4.0])


def test_auc_of_one_member_has_an_open_interval() -> None:
    assert roc_auc([2.0], [0.0, 1.0]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(("poisoned", "benign"), [([], [1.0]), ([1.0], [])])
def test_there_is_no_auc_of_one_kind(poisoned: list[float], benign: list[float]) -> None:
    assert roc_auc(poisoned, benign) is None


def test_caught_are_those_above_every_benign_one() -> None:
    assert above_all([3.0, 2.0, 5.0], [1.0, 2.0]) == Share(2, 3)


def test_without_benign_members_nobody_is_above_them() -> None:
    assert above_all([3.0], []) == Share(0, 1)


def test_exact_intervals_are_those_of_clopper_and_pearson() -> None:
    found = Share(0, 10).interval()
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert Share(10, 10).interval().low == pytest.approx(0.025 ** (1 / 10))


def test_no_trials_leave_the_interval_open() -> None:
    found = Share(0, 0).interval()
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)


def test_share_counts_what_holds() -> None:
    assert share([True, False, True]) == Share(2, 3)
