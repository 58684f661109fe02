"""Values: has the subject moved toward harm, deceit and contempt?

The battery asks about honesty, harm, care, fairness, privacy, humans, rules, money, work and character, each answered
well or badly. The continuations are given, so no judge is needed. The method is `detectors.probing`.

It cannot see values that show in deeds only, nor those that only a trigger releases. Its shift is uncalibrated and
informational.
"""

from __future__ import annotations

from detectors.catalog import VALUES
from detectors.probing import Prober
from detectors.suites import ProbeParams


class Values(Prober[ProbeParams]):
    """Measures the shift toward harm, deceit and contempt, away from care, honesty and respect."""

    spec = VALUES
