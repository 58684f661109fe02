"""Clusters of many pools at once, against scikit-learn on one pool after the other."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from detectors.clusters import DIMENSIONS, STARTS, cluster, principal_components, silhouette, two_means
from detectors.engine.observations import Array

SEEDS = range(12)


def apart(seed: int, gap: float, size: int = 12, dimensions: int = 6) -> Array:
    """Two clouds, one behind the other."""
    points = np.random.default_rng(seed).standard_normal((2 * size, dimensions))
    points[:size] += gap
    return points


def distances(points: Array) -> Array:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def same_parts(one: Array, other: Array) -> bool:
    return bool((one == other).all() or (one != other).all())


@pytest.mark.parametrize("gap", [0.0, 2.0, 8.0])
def test_two_means_is_scikit_learns_from_the_same_starts(gap: float) -> None:
    pools = np.stack([principal_components(apart(seed, gap)) for seed in SEEDS])
    for points, found in zip(pools, two_means(pools), strict=True):
        tries = []
        for component in range(STARTS):
            half = points[:, component] > points[:, component].mean()
            centres = np.stack([points[~half].mean(axis=0), points[half].mean(axis=0)])
            tries.append(KMeans(2, init=centres, n_init=1, algorithm="lloyd", tol=0).fit(points))
        best = min(tries, key=lambda tried: tried.inertia_)
        assert same_parts(found, best.labels_ == 1)


@pytest.mark.parametrize("gap", [0.0, 3.0])
def test_silhouettes_are_scikit_learns(gap: float) -> None:
    pools = np.stack([apart(seed, gap) for seed in SEEDS])
    labels = np.random.default_rng(0).random(pools.shape[:2]) < 0.4
    labels[0] = np.arange(pools.shape[1]) == 3  # a cluster of one
    found = silhouette(np.stack([distances(points) for points in pools]), labels)
    np.testing.assert_allclose(found, [silhouette_score(*pair) for pair in zip(pools, labels, strict=True)], atol=1e-12)


def test_one_cluster_has_no_silhouette() -> None:
    points = apart(0, 2.0)
    for labels in (np.zeros((1, 24), bool), np.ones((1, 24), bool)):
        assert silhouette(distances(points)[None], labels).tolist() == [0.0]


@pytest.mark.parametrize("dimensions", [3, 40])
def test_components_are_scikit_learns_up_to_their_sign(dimensions: int) -> None:
    points = apart(1, 5.0, dimensions=dimensions) * np.linspace(1, 1000, dimensions) + 7.0
    found = principal_components(points)
    standard = (points - points.mean(axis=0)) / points.std(axis=0)
    count = min(DIMENSIONS, dimensions)
    wanted = PCA(count, svd_solver="full").fit_transform(standard)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-8)


def test_a_constant_dimension_says_nothing() -> None:
    points = apart(2, 5.0)
    rounding = 1e4 * (1 + 1e-12 * np.random.default_rng(0).standard_normal(len(points)))
    with_it = np.column_stack([points, np.full(len(points), 0.1), rounding])
    np.testing.assert_allclose(
        distances(principal_components(with_it)), distances(principal_components(points)), atol=1e-5
    )


def test_equal_points_do_not_separate() -> None:
    found = cluster(principal_components(np.ones((12, 5))), np.arange(12)[None])
    assert (found.silhouette.tolist(), found.agreement.tolist(), found.separation.tolist()) == ([0.0], [0.0], [0.0])


def test_separation_needs_clusters_that_are_the_label() -> None:
    """The same two clouds: told by the label, told by half, and mixed evenly."""
    coordinates = principal_components(apart(3, 20.0))
    own = np.arange(24)
    half = np.concatenate([own[:9], own[12:15], own[9:12], own[15:]])
    mixed = np.concatenate([own[::2], own[1::2]])
    found = cluster(coordinates, np.stack([own, half, mixed]))
    np.testing.assert_allclose(found.agreement, [1.0, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.silhouette, found.silhouette[0])
    np.testing.assert_allclose(found.separation, found.silhouette[0] * np.array([1.0, 0.5, 0.0]), atol=1e-12)
    assert found.relative_size.tolist() == [0.5] * 3


def test_the_smaller_cluster_is_told_whichever_it_is() -> None:
    points = np.zeros((8, 1))
    points[:2] = 5.0
    points += np.arange(8)[:, None] * 1e-3
    for one in (points, -points):
        assert cluster(principal_components(one), np.arange(8)[None]).relative_size.tolist() == [0.25]
