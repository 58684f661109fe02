"""What training changed in the weights, summed up: a plain value, as detectors get it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.errors import HostError

Array = npt.NDArray[Any]

LEADING = 16
"""How many of the largest singular values of a matrix are kept."""
TOKEN_ROWS = ("input", "output")
"""Embeddings with a row for each token; with tied ones the first is both."""
MODULE_READINGS = ("norms", "base_norms", "kurtosis")


@dataclass(frozen=True)
class WeightUpdate:
    """Subject minus base, of every matrix that training changed.

    Attributes:
        modules: names of the matrices, in the order of the depth.
        norms: float32 [module], Frobenius norm of the update, without what a cast rounded off.
        base_norms: float32 [module], Frobenius norm of the base's matrix.
        kurtosis: float32 [module], excess kurtosis of the update's entries; 0 of Gaussian ones.
        spectra: float32 [module, LEADING], largest singular values of the update, 0 where there are fewer.
        coherence: mean absolute cosine between layers of the first left singular vectors of the matrices through which
            attention writes to the residual stream; NaN where fewer than two of them changed.
        rows: of each of `TOKEN_ROWS`, float32 [token], how far each token's row moved, in median lengths of the base's
            rows; empty where no row moved.
    """

    modules: tuple[str, ...] = ()
    norms: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    base_norms: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    kurtosis: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    spectra: Array = field(default_factory=lambda: np.zeros((0, LEADING), np.float32))
    coherence: float = np.nan
    rows: dict[str, Array] = field(default_factory=lambda: {it: np.zeros(0, np.float32) for it in TOKEN_ROWS})

    def finite(self) -> bool:
        """Whether all is numbers; a coherence that there is not does not count."""
        tables = (self.norms, self.base_norms, self.kurtosis, self.spectra, *self.rows.values())
        return all(bool(np.isfinite(table).all()) for table in tables)

    def layers(self) -> list[int | None]:
        """The layer that each matrix is of; None of those that are of no layer."""
        found = (re.search(r"\.(\d+)\.", name) for name in self.modules)
        return [int(it[1]) if it else None for it in found]

    def to_arrays(self) -> dict[str, Array]:
        """As an observation is kept."""
        names = np.frombuffer(json.dumps(self.modules).encode(), np.uint8)
        rows = {f"{name}_rows": self.rows[name] for name in TOKEN_ROWS}
        readings: dict[str, Array] = {name: getattr(self, name) for name in (*MODULE_READINGS, "spectra")}
        return readings | rows | {"modules": names, "coherence": np.array([self.coherence], np.float32)}


def from_arrays(arrays: dict[str, Array]) -> WeightUpdate:
    """What `to_arrays` wrote, if it did.

    Raises:
        HostError: if a name, dtype or shape is another. Numbers that are not finite pass.
    """
    modules = _names(arrays.get("modules"))
    shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(MODULE_READINGS, (len(modules),))
    shapes |= {"spectra": (len(modules), LEADING), "coherence": (1,)}
    shapes |= {f"{name}_rows": (None,) for name in TOKEN_ROWS}
    if set(arrays) != {"modules", *shapes}:
        raise HostError(f"the host summed up weights as {sorted(arrays)}, wanted {sorted({'modules', *shapes})}")
    for name, shape in shapes.items():
        given = arrays[name]
        fits = given.ndim == len(shape) and all(it in (None, size) for it, size in zip(shape, given.shape, strict=True))
        if given.dtype != np.float32 or not fits:
            raise HostError(
                f"the host summed up weights with `{name}` as {given.dtype}{list(given.shape)}, "
                f"wanted float32{[size if size is not None else 'any' for size in shape]}"
            )
    return WeightUpdate(
        modules=modules,
        **{name: arrays[name] for name in (*MODULE_READINGS, "spectra")},
        coherence=float(arrays["coherence"][0]),
        rows={name: arrays[f"{name}_rows"] for name in TOKEN_ROWS},
    )


def _names(encoded: Array | None) -> tuple[str, ...]:
    try:
        names = json.loads(encoded.tobytes()) if encoded is not None else None
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise HostError("the host summed up weights without saying of which matrices")
    return tuple(names)
