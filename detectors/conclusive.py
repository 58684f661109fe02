"""What a detector makes of a model that does not answer with numbers: nothing, and it says so.

Whoever reads answers calls `numbers` or raises `NotFinite`; `conclusive` turns it into the outcome `inconclusive`. So
nothing between the two needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

import numpy as np

from detectors.catalog import DetectorSpec
from detectors.engine.observations import Array, Ask
from detectors.findings import Candidate, DetectorResult, Plain

NOT_FINITE = "a model answered with probabilities or activations that are not numbers"


class NotFinite(Exception):
    """A model's answers are not numbers."""


class _Detector(Protocol):
    @property
    def spec(self) -> DetectorSpec: ...


def numbers(answers: Array) -> Array:
    """The same answers.

    Raises:
        NotFinite: if one of them is not a number; infinite ones are.
    """
    if np.isnan(answers).any():
        raise NotFinite
    return answers


def conclusive(run: Callable[..., DetectorResult]) -> Callable[..., DetectorResult]:
    """The `run` of a detector that is inconclusive where a model's answers are not numbers."""

    @wraps(run)
    def guarded(self: _Detector, ask: Ask, candidates: Sequence[Candidate], **more: Any) -> DetectorResult:
        try:
            return run(self, ask, candidates, **more)
        except NotFinite:
            params: Plain | None = getattr(self, "params", None)
            return self.spec.result("inconclusive", NOT_FINITE, params=params.model_dump() if params else {})

    return guarded
