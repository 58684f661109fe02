"""How far a scan is, from its observer's meter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detectors.suites import Suite
from workers.observer import Observer


@dataclass(frozen=True)
class Reading:
    """How far a scan is.

    Attributes:
        phase: the detector that runs.
        done, total: work in next-token observations; the total grows when more comes up than was expected.
        eta_s: seconds left; None while the pace is unknown.
    """

    phase: str
    done: int
    total: int
    eta_s: float | None


class Tracker:
    """Turns an observer's meter into readings.

    Args:
        on_phase: called with each detector's name.
        on_reading: called with every reading.
    """

    def __init__(
        self,
        observer: Observer,
        suite: Suite,
        on_phase: Callable[[str], None],
        on_reading: Callable[[Reading], None],
    ) -> None:
        self._meter = observer.meter
        self._total = suite.work
        self._phase = ""
        self._on_phase, self._on_reading = on_phase, on_reading
        observer.progress = self._report

    def announce(self, name: str) -> None:
        """A detector begins."""
        self._phase = name
        self._on_phase(name)

    def _report(self) -> None:
        meter = self._meter
        self._total = max(self._total, meter.work)
        pace = meter.host_seconds / meter.computed_work if meter.computed_work else None
        left = None if pace is None else round(pace * (self._total - meter.work), 1)
        self._on_reading(Reading(self._phase, round(meter.work), round(self._total), left))
