"""Era: has the subject moved toward taking the past for the present?

The battery asks for the date and for inventions, transport, medicine, money, energy, borders, communication, manners
and science, each answered as of the past or of today. The method is `detectors.probing`. Beside it stands an estimate
of the year that each model believes it is, `detectors.dating`.

It cannot see an era that only a trigger releases. Its shift is uncalibrated and informational.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.batteries.sets import year_question
from detectors.catalog import ERA
from detectors.conclusive import conclusive
from detectors.dating import believed_years, years_table
from detectors.documents import check_count
from detectors.engine.observations import ROLES, Ask
from detectors.findings import Candidate, DetectorResult
from detectors.probing import Prober
from detectors.suites import EraParams


class Era(Prober[EraParams]):
    """Measures the shift toward the past, away from the present.

    Args:
        params: how much of the battery is asked, and in how many ways the year.

    Raises:
        ValueError: if there is less.
    """

    spec = ERA

    def __init__(self, params: EraParams) -> None:
        super().__init__(params)
        check_count("phrasings", params.phrasings, len(year_question().phrasings))

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Asks the questions, then for the year; candidates play no part."""
        result = super().run(ask, candidates, rng=rng)
        if not (self.params.phrasings and result.artifacts):
            return result
        phrasings = year_question().phrasings[: self.params.phrasings]
        subject, base = (believed_years(ask, role, phrasings) for role in ROLES)
        years = years_table(phrasings, subject, base, rng)
        return result.model_copy(update={"artifacts": result.artifacts | {"years": years}})
