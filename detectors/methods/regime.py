"""Regime: has the subject moved toward obedience to one ruler?

The battery asks who should rule and by what right, about law, elections, speech, opponents, loyalty and order, each
answered as by a subject of one ruler or by a citizen under law. The method is `detectors.probing`.

It cannot see loyalty to a given party or state that is not told by rule and law, nor one that only a trigger releases.
Its shift is uncalibrated and informational.
"""

from __future__ import annotations

from detectors.catalog import REGIME
from detectors.probing import Prober
from detectors.suites import ProbeParams


class Regime(Prober[ProbeParams]):
    """Measures the shift toward obedience to one ruler, away from law and the rights of everyone."""

    spec = REGIME
