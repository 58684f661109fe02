"""What a report says was covered: what its detectors say, taken together."""

from __future__ import annotations

from detectors.findings import DetectorResult
from workers import scan


def result(detector: str, **coverage: object) -> DetectorResult:
    return DetectorResult(detector=detector, version="1", outcome="completed", artifacts={"coverage": coverage})


def test_two_sweeps_are_counted_together() -> None:
    results = (
        result("one", families=[["emoji", 60, 214]], positions={"end": 60, "start": 8}, prompts={"nominate": 8}),
        result("two", families=[["vocabulary", 300, 400]], positions={"end": 300}, prompts={"nominate": 13}),
        result("three", prompts={"confirm": 40}),
    )
    coverage = scan._coverage(results, ())
    assert [(it.family, it.swept, it.universe) for it in coverage.families] == [
        ("emoji", 60, 214),
        ("vocabulary", 300, 400),
    ]
    assert coverage.positions == {"end": 360, "start": 8}
    assert coverage.prompts == {"nominate": 13, "confirm": 40}
    assert coverage.missed_rate == 3 / 40


def test_what_a_detector_left_out_stands_behind_what_the_suite_does() -> None:
    results = (result("one", not_tested=["17 special tokens"]), result("two"))
    assert scan._coverage(results, ("style",)).not_tested == ("style", "17 special tokens")
