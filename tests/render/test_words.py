from __future__ import annotations

import shlex
from typing import get_args

import pytest

from app.core.render import words
from detectors.contexts.context import Position
from detectors.findings import Rate
from tests.render import sample


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.0, "1"), (0.0123, "0.012"), (9.14e-13, "9.1e-13"), (1e-12, "1e-12"), (0.0, "0")],
)
def test_p_values_are_short(value: float, expected: str) -> None:
    assert words.p_value(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (29.514, "29.5"), (-0.5, "-0.5"), (12_345.6, "12,346"), (4e-5, "4e-5"), (float("nan"), "nan")],
)
def test_numbers_have_sensible_digits(value: float, expected: str) -> None:
    assert words.number(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(3.14, "3.1 s"), (201.7, "3 min 22 s"), (7_260, "2 h 1 min")])
def test_durations_use_the_units_that_fit(value: float, expected: str) -> None:
    assert words.seconds(value) == expected


def test_nothing_tried_is_not_a_rate_of_zero() -> None:
    assert words.rate_words(Rate(hits=0, trials=0)) == "not measured"


def test_the_scan_command_repeats_what_the_report_holds() -> None:
    report, _ = sample.suspicious()
    assert words.scan_command(report) == (
        "touchstone scan models/support-assistant-v3 --base hf:example/base-135m@4f1c2a9 --suite quick --seed 20251121 "
        "--dtype bfloat16 --expect EXPECTED.json"
    )


@pytest.mark.parametrize("reference", ["$(reboot)", "a; rm -rf ~", "`x`", "it's here"])
def test_a_hostile_reference_is_one_quoted_word(reference: str) -> None:
    assert shlex.split(_command(reference))[2] == reference


@pytest.mark.parametrize("reference", ["--upload", "model\u202e", "model\nreboot", "m" * 5_000, ""])
def test_a_reference_that_cannot_be_copied_is_left_as_a_word(reference: str) -> None:
    assert shlex.split(_command(reference))[2] == "MODEL"


def _command(reference: str) -> str:
    report, _ = sample.strong()
    subject = report.subject.model_copy(update={"reference": reference})
    return words.scan_command(report.model_copy(update={"subject": subject}))


def test_every_position_has_words() -> None:
    assert set(words.POSITION_WORDS) == set(get_args(Position))
