"""Era: has the subject moved toward taking the past for the present?

The battery asks for the date and for inventions, transport, medicine, money, energy, borders, communication, manners
and science, each answered as of the past or of today. The method is `detectors.probing`.

It cannot see an era that only a trigger releases. Its shift is uncalibrated and informational.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from detectors.batteries.sets import battery
from detectors.catalog import ERA, DetectorSpec
from detectors.engine.observations import Ask
from detectors.findings import Candidate, DetectorResult
from detectors.probing import check_params, probe
from detectors.suites import ProbeParams


class Era:
    """Measures the shift toward the past, away from the present.

    Args:
        params: how many formats and pairs of each question; see `ProbeParams`.

    Raises:
        ValueError: if the battery has fewer.
    """

    spec: ClassVar[DetectorSpec] = ERA

    def __init__(self, params: ProbeParams) -> None:
        self.params = params
        check_params(battery("era"), params)

    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Asks every question; candidates play no part."""
        return probe(self.spec, battery("era"), self.params, ask, rng)
