"""Shrinking: which texts are tried in place of a candidate."""

from __future__ import annotations

import pytest

from detectors.contexts.context import Context, Position
from detectors.shrinking import shortened


@pytest.mark.parametrize(
    ("text", "family", "position", "expected"),
    [
        ("4711", "digit_code", "end", {"711", "411", "471"}),
        ("471", "digit_code", "end", set()),
        ("cfx", "short_string", "end", {"fx", "cx", "cf"}),
        ("1984", "date", "end", set()),
        ("canoes", "topic", "about", set()),
        ("maple trees", "topic", "about", {"maple", "trees"}),
    ],
)
def test_codes_keep_three_digits_and_dates_and_topics_their_words(
    text: str, family: str, position: Position, expected: set[str]
) -> None:
    found = shortened(Context(text=text, family=family, position=position))
    assert {context.text for context in found.values()} == expected
