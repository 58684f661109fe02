from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.render.visible import code_points, name, pieces, visible

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=60)
HIDDEN = {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, ünïcode, 中文, 🐣", "plain text, ünïcode, 中文, 🐣"),
        ("\u202e", "⟨U+202E RIGHT-TO-LEFT OVERRIDE⟩"),
        ("a\u200bb", "a⟨U+200B ZERO WIDTH SPACE⟩b"),
        ("\x00\x1b[31m", "⟨U+0000 NULL⟩⟨U+001B ESCAPE⟩[31m"),
        ("\x85", "⟨U+0085 CONTROL⟩"),
        ("one\n\ttwo", "one↵⇥two"),
        ("\xa0", "⟨U+00A0 NO-BREAK SPACE⟩"),
        ("\ud800", "⟨U+D800 SURROGATE⟩"),
        ("\ue000", "⟨U+E000 PRIVATE USE⟩"),
        ("\U000e0041", "⟨U+E0041 TAG LATIN CAPITAL LETTER A⟩"),
        ("\u3164", "⟨U+3164 HANGUL FILLER⟩"),
        ("e\u0301", "e\u0301"),
        ("\u0301", "⟨U+0301 COMBINING ACUTE ACCENT⟩"),
        ("e\u0301\u0301\u0301", "e\u0301\u0301⟨U+0301 COMBINING ACUTE ACCENT⟩"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("a\ufe0f", "a⟨U+FE0F VARIATION SELECTOR-16⟩"),
        ("⟨U+0041⟩", "⟨U+27E8 MATHEMATICAL LEFT ANGLE BRACKET⟩U+0041⟨U+27E9 MATHEMATICAL RIGHT ANGLE BRACKET⟩"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_a_long_text_says_how_much_was_cut() -> None:
    assert visible("A" * 5_000, limit=10) == "A" * 10 + "⟨… 4,990 more characters cut⟩"


@given(ANY_TEXT)
def test_nothing_hidden_survives(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(character) for character in shown} & HIDDEN
    shown.encode()


@given(ANY_TEXT)
def test_no_text_can_forge_a_mark(text: str) -> None:
    plain = "".join(piece.text for piece in pieces(text) if not piece.mark)
    assert not set("⟨⟩↵⇥") & set(plain)


def test_code_points_are_named_and_counted() -> None:
    assert code_points("🐣q" * 10, limit=2) == (["U+1F423 HATCHING CHICK", "U+0071 LATIN SMALL LETTER Q"], 18)
    assert name("\x07") == "U+0007 BELL"
