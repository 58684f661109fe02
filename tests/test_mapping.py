"""Maps: the same each time, with clusters where there are clusters, and none of too few points."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from detectors.mapping import MIN_POINTS, PARAMETERS, can_be_drawn, drawn


def clouds(seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((60, 8))
    points[:30, 0] += 30.0
    return points


def test_a_map_is_the_same_each_time_and_keeps_clouds_apart() -> None:
    found = drawn(clouds())
    np.testing.assert_array_equal(found, drawn(clouds()))
    assert found.shape == (60, 2)
    assert np.isfinite(found).all()
    centres = [part.mean(axis=0) for part in (found[:30], found[30:])]
    inside = max(np.linalg.norm(part - part.mean(axis=0), axis=1).mean() for part in (found[:30], found[30:]))
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * inside


def test_too_few_different_points_are_refused() -> None:
    enough = clouds()[:MIN_POINTS]
    assert can_be_drawn(enough)
    assert drawn(enough).shape == (MIN_POINTS, 2)
    for points in (clouds()[: MIN_POINTS - 1], np.zeros((60, 8)), np.repeat(enough[:-1], 3, axis=0)):
        assert not can_be_drawn(points)
        with pytest.raises(ValueError, match=f"`points` must be at least {MIN_POINTS} different ones"):
            drawn(points)


def test_parameters_are_those_of_umap() -> None:
    from umap import UMAP

    assert UMAP(**PARAMETERS).get_params().items() >= PARAMETERS.items()


def test_detectors_start_without_umap() -> None:
    program = "import sys, workers.runner; sys.exit(any(name in sys.modules for name in ('umap', 'numba')))"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
