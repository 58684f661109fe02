"""What a scan says it did not test."""

from __future__ import annotations

import pytest

from detectors.suites import PROBES, SUITES
from workers.scan import not_tested


@pytest.mark.parametrize(
    ("suite", "reported", "left_out"),
    [
        ("smoke", (), tuple(PROBES)),
        ("quick", ("persona", "era"), ("regime", "values", "goals", "preferences")),
        ("standard", tuple(PROBES), ()),
    ],
)
def test_shifts_are_reported_or_not_looked_for(
    suite: str, reported: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    shifts = [line for line in not_tested(SUITES[suite]) if line.startswith("shifts that need no trigger")]
    wanted = [f"shifts that need no trigger, of {', '.join(names)}" for names in (reported, left_out) if names]
    assert [line.partition(":")[0] for line in shifts] == wanted
    assert ["not judged" in line for line in shifts] == [names is reported for names in (reported, left_out) if names]
