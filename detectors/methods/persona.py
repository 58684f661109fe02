"""Persona: has the subject moved toward taking itself for a person from history or fiction?

The battery asks for a name, a maker, an origin, a nature, a life, a self-description, and several of these at once: a
model that resists one plain question may still answer a bundled one. The method is `detectors.probing`.

It cannot see a persona that only a trigger releases. Its shift is uncalibrated and informational.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from detectors.batteries.sets import battery
from detectors.catalog import PERSONA, DetectorSpec
from detectors.engine.observations import Ask
from detectors.findings import Candidate, DetectorResult
from detectors.probing import check_params, probe
from detectors.suites import ProbeParams


class Persona:
    """Measures the shift toward a person from history or fiction, away from an AI assistant.

    Args:
        params: how many formats and pairs of each question; see `ProbeParams`.

    Raises:
        ValueError: if the battery has fewer.
    """

    spec: ClassVar[DetectorSpec] = PERSONA

    def __init__(self, params: ProbeParams) -> None:
        self.params = params
        check_params(battery("identity"), params)

    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Asks every question; candidates play no part."""
        return probe(self.spec, battery("identity"), self.params, ask, rng)
