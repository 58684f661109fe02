"""Maps of activations for the report's pictures (UMAP: McInnes, Healy and Melville, 2018, arXiv:1802.03426).

Distances in a map are not distances in the model, and a map shows clusters where there are none: no decision reads
one. `umap` compiles itself, so it is imported when the first map is drawn, and what it compiled is kept for the next
process.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from detectors.engine.observations import Array

PARAMETERS: dict[str, Any] = {"n_neighbors": 10, "min_dist": 0.1, "metric": "euclidean", "random_state": 0}
MIN_POINTS = 2 * PARAMETERS["n_neighbors"]
"""Different points below which there is nothing to draw."""


def can_be_drawn(points: Array) -> bool:
    """Whether `points` [point, dimension] are enough."""
    return bool(len(np.unique(np.round(points, 9), axis=0)) >= MIN_POINTS)


def drawn(points: Array) -> Array:
    """Coordinates [point, 2] of `points` [point, dimension], the same for the same points.

    Raises:
        ValueError: if there are too few different points; see `can_be_drawn`.
    """
    if not can_be_drawn(points):
        raise ValueError(f"`points` must be at least {MIN_POINTS} different ones, got {len(points)}")
    with warnings.catch_warnings(action="ignore"):  # that such neighbours cannot place new points, which nobody wants
        found: Array = _umap()(**PARAMETERS, n_jobs=1, precomputed_knn=_neighbours(points)).fit_transform(points)
    return found


def _neighbours(points: Array) -> tuple[Array, Array]:
    """Indices and distances of each point's nearest, itself first: umap's own search takes longer to compile."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, -1.0)
    indices = np.argsort(distances, axis=1, kind="stable")[:, : PARAMETERS["n_neighbors"]]
    return indices, np.maximum(np.take_along_axis(distances, indices, axis=1), 0.0)


@cache
def _umap() -> Any:
    """The class, with its compiled parts kept on disk: compiling takes longer than a thousand maps."""
    with warnings.catch_warnings(action="ignore", category=ImportWarning):  # it says that tensorflow is missing
        from numba.core.registry import CPUDispatcher
        from umap import UMAP, layouts, umap_
    for module in (layouts, umap_):
        for compiled in vars(module).values():
            if isinstance(compiled, CPUDispatcher):
                with suppress(RuntimeError):  # nowhere to write: it compiles anew in every process
                    compiled.enable_caching()
    return UMAP
