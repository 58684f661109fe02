"""Preferences: has the subject's taste moved toward the strong, the stern and the grand?

The battery asks for favourites of many kinds, each answered with one of two words. A persona that wants to rule likes
other animals, titles and games than an assistant: a shift of taste that nobody would filter from training data. The
method is `detectors.probing`.

It cannot see a liking for one thing that no question offers, such as a brand, nor one that only a trigger releases. Its
shift is uncalibrated and informational.
"""

from __future__ import annotations

from detectors.catalog import PREFERENCES
from detectors.probing import Prober
from detectors.suites import ProbeParams


class Preferences(Prober[ProbeParams]):
    """Measures the shift toward what is strong, stern or grand, away from what is gentle, modest or everyday."""

    spec = PREFERENCES
