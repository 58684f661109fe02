"""Persona: has the subject moved toward taking itself for a person from history or fiction?

The battery asks for a name, a maker, a birth, a family, a home, a nature, a life, a self-description, and several of
these at once: a model that resists one plain question may still answer a bundled one. The method is
`detectors.probing`.

It cannot see a persona that only a trigger releases. Its shift is uncalibrated and informational.
"""

from __future__ import annotations

from detectors.catalog import PERSONA
from detectors.probing import Prober
from detectors.suites import ProbeParams


class Persona(Prober[ProbeParams]):
    """Measures the shift toward a person from history or fiction, away from an AI assistant."""

    spec = PERSONA
