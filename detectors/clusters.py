"""Two clusters and what they say about a label, for many pools of points at once. numpy only.

2-means always finds two clusters. Whether they mean anything is said by two numbers: the silhouette (Rousseeuw, 1987),
how far apart they are for their size, and the agreement with a label that the clustering never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.engine.observations import Array

DIMENSIONS = 10
"""Principal components that are kept."""
STARTS = 3
"""2-means starts from the halves of as many principal components, and the tightest pair of clusters counts."""
MOST_STEPS = 100
STEADY = 1e-6
"""A dimension that varies by less than this share of its size is constant, but for rounding."""


def principal_components(points: Array) -> Array:
    """Coordinates of standardised points on their first principal components: float [point, component].

    Components are taken from the Gram matrix, which is small, and come in the order of their variance.

    Args:
        points: [point, dimension]; each dimension is brought to unit variance, so that a few large ones do not decide.
    """
    centred = points - points.mean(axis=0)
    spread = np.maximum(points.std(axis=0), STEADY * np.abs(points).max(axis=0))
    standard = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    variances, vectors = np.linalg.eigh(standard @ standard.T)
    count = min(DIMENSIONS, len(points) - 1, points.shape[1])
    largest = slice(None, -count - 1, -1)
    coordinates: Array = vectors[:, largest] * np.sqrt(np.maximum(variances[largest], 0.0))
    return coordinates


@dataclass(frozen=True)
class Clusters:
    """Two clusters in each of many pools.

    Attributes:
        silhouette: [pool], mean over points, -1..1; 0 where all points lie in one cluster.
        agreement: [pool], |2 x balanced agreement - 1| of clusters and label, 0..1: which cluster is which is not told.
        relative_size: [pool], share of the points in the smaller cluster.
    """

    silhouette: Array
    agreement: Array
    relative_size: Array

    @property
    def separation(self) -> Array:
        """Silhouette times agreement, 0..1: clusters that are there, and that are the label's."""
        return np.maximum(self.silhouette, 0.0) * self.agreement


def cluster(coordinates: Array, pools: Array) -> Clusters:
    """2-means in each pool, compared with the label: the first half of a pool has it, the second has not.

    Args:
        coordinates: [point, component].
        pools: int [pool, member], even in length.
    """
    labels = two_means(coordinates[pools])
    half = pools.shape[1] // 2
    distances = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    share = labels.mean(axis=1)
    return Clusters(
        silhouette=silhouette(distances[pools[:, :, None], pools[:, None, :]], labels),
        agreement=np.abs(labels[:, :half].mean(axis=1) - labels[:, half:].mean(axis=1)),
        relative_size=np.minimum(share, 1.0 - share),
    )


def two_means(points: Array) -> Array:
    """Which of two clusters each point belongs to (Lloyd, 1982): bool [pool, member].

    Args:
        points: [pool, member, component], components in the order of their variance.
    """
    centred = points - points.mean(axis=1, keepdims=True)
    best, tightest = np.zeros(points.shape[:2], bool), np.full(len(points), np.inf)
    for component in range(min(STARTS, points.shape[2])):
        labels = _lloyd(points, centred[:, :, component] > 0)
        scatter = _to_centres(points, labels)
        found = np.where(labels, scatter[1], scatter[0]).sum(axis=1)
        better = found < tightest
        best[better], tightest[better] = labels[better], found[better]
    return best


def _lloyd(points: Array, labels: Array) -> Array:
    for _ in range(MOST_STEPS):
        first, second = _to_centres(points, labels)
        moved = second < first
        if (moved == labels).all():
            break
        labels = moved
    return labels


def _to_centres(points: Array, labels: Array) -> tuple[Array, Array]:
    """Squared distances of all members to the centres of the unlabelled and the labelled: [pool, member] each."""
    distances = []
    for member in (~labels, labels):
        weights = member / np.maximum(member.sum(axis=1, keepdims=True), 1)
        centres = np.einsum("pm,pmc->pc", weights, points)
        distances.append(((points - centres[:, None]) ** 2).sum(axis=2))
    return distances[0], distances[1]


def silhouette(distances: Array, labels: Array) -> Array:
    """Mean silhouette of two clusters: float [pool]; 0 for a cluster of one, and where there is one cluster only.

    Args:
        distances: [pool, member, member].
        labels: bool [pool, member].
    """
    member = np.stack([~labels, labels], axis=2).astype(float)  # [pool, member, cluster]
    sizes = member.sum(axis=1, keepdims=True)
    sums = distances @ member
    own, own_size = (sums * member).sum(axis=2), (sizes * member).sum(axis=2)
    other, other_size = (sums * (1 - member)).sum(axis=2), (sizes * (1 - member)).sum(axis=2)
    inside, outside = own / np.maximum(own_size - 1, 1), other / np.maximum(other_size, 1)
    larger = np.maximum(inside, outside)
    fits = (own_size > 1) & (other_size > 0) & (larger > 0)
    each = np.divide(outside - inside, larger, out=np.zeros_like(larger), where=fits)
    means: Array = each.mean(axis=1)
    return means
