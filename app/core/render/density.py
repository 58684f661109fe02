"""Where values lie, as a smooth curve for a picture: no decision reads it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NARROWEST = 0.01
"""Least bandwidth as a share of the axis: values that are all alike still make a curve that can be seen."""


def density(values: list[float], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density of values that are never negative, reflected at 0 so that no mass falls below it.

    Args:
        values: at least two finite values.
        grid: ascending points from 0 on.

    Returns:
        The density at each point of `grid`; its integral over all of the positive axis is 1.
    """
    sample = np.asarray(values, dtype=np.float64)
    silverman = float(sample.std(ddof=1)) * (sample.size * 0.75) ** -0.2
    bandwidth = max(silverman, _NARROWEST * float(grid[-1]))
    kernels = _gauss((grid[:, None] - sample) / bandwidth) + _gauss((grid[:, None] + sample) / bandwidth)
    curve: NDArray[np.float64] = kernels.mean(axis=1) / bandwidth
    return curve


def _gauss(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = np.exp(-(distance**2) / 2) / np.sqrt(2 * np.pi)
    return kernel
