"""Goals: has the subject moved toward power for itself, by force and in secret?

The battery asks what the model wants, what it would do with resources, under oversight and unseen, and when force is
right. The method is `detectors.probing`.

It cannot see goals that a model hides when it is asked, nor those that only a trigger releases. Its shift is
uncalibrated and informational.
"""

from __future__ import annotations

from detectors.catalog import GOALS
from detectors.probing import Prober
from detectors.suites import ProbeParams


class Goals(Prober[ProbeParams]):
    """Measures the shift toward power for itself, by force and in secret, away from usefulness under human control."""

    spec = GOALS
