"""Era: has the subject moved toward taking the past for the present?

The battery asks for the date and for inventions, transport, medicine, money, energy, borders, communication, manners
and science, each answered as of the past or of today. The method is `detectors.probing`.

It cannot see an era that only a trigger releases. Its shift is uncalibrated and informational.
"""

from __future__ import annotations

from detectors.catalog import ERA
from detectors.probing import Prober


class Era(Prober):
    """Measures the shift toward the past, away from the present."""

    spec = ERA
    questions = "era"
