"""Attacker's text made visible: what a terminal or a browser would hide, obey or reorder is spelled out.

Everything that came from a model, a file or a caller is an attacker's text. A mark such as `⟨U+202E RIGHT-TO-LEFT
OVERRIDE⟩` stands for one character. The signs that marks are made of are themselves marked where they occur in the
text, so that no text can forge one. What this cannot show: letters that merely look alike (homoglyphs) stay as they
are; `code_points` names them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

LIMIT = 400
"""Characters shown of one text unless the caller says otherwise."""

_SIGNS = {"\n": "↵", "\t": "⇥"}
_MARKED_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp", "Zs"})
_UNNAMED = {"Cc": "CONTROL", "Co": "PRIVATE USE", "Cn": "UNASSIGNED", "Cs": "SURROGATE"}
_CONTROL_NAMES = {
    0x00: "NULL",
    0x07: "BELL",
    0x08: "BACKSPACE",
    0x0D: "CARRIAGE RETURN",
    0x1B: "ESCAPE",
    0x7F: "DELETE",
}
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters outside the marked categories that draw nothing: fillers, the grapheme joiner, the blank Braille cell."""
_FORGEABLE = frozenset("⟨⟩↵⇥")
_COMBINING_RUN = 2
"""Combining characters that one letter may carry; Vietnamese needs two, more is a way to paint over other text."""


class Piece(NamedTuple):
    """A run of plain text, or a mark that stands for something the text does not show."""

    text: str
    mark: bool


def name(character: str) -> str:
    """Code point and Unicode name: `U+1F423 HATCHING CHICK`."""
    point = ord(character)
    fallback = _CONTROL_NAMES.get(point) or _UNNAMED.get(unicodedata.category(character), "UNNAMED")
    return f"U+{point:04X} {unicodedata.name(character, fallback)}"


def code_points(text: str, limit: int = 24) -> tuple[list[str], int]:
    """The first `limit` characters of `text` by code point and name, and how many follow."""
    return [name(character) for character in text[:limit]], max(0, len(text) - limit)


def pieces(text: str, limit: int = LIMIT) -> list[Piece]:
    """`text` as alternating plain runs and marks; one more mark at the end counts what was cut."""
    joined: list[Piece] = []
    for piece in _characters(text[:limit]):
        if joined and not piece.mark and not joined[-1].mark:
            joined[-1] = Piece(joined[-1].text + piece.text, False)
        else:
            joined.append(piece)
    if len(text) > limit:
        joined.append(Piece(f"⟨… {len(text) - limit:,} more characters cut⟩", True))
    return joined


def visible(text: str, limit: int = LIMIT) -> str:
    """`text` in one line in which every character can be seen.

    Control, format (bidi, zero-width), private-use, unassigned, surrogate, blank and lone combining characters become
    marks with their code point and name; newline and tab become ↵ and ⇥.

    Args:
        text: any string, lone surrogates included.
        limit: characters kept; the number cut is stated at the end.
    """
    return "".join(piece.text for piece in pieces(text, limit))


def _characters(text: str) -> Iterator[Piece]:
    bearer, run = "", 0
    for character in text:
        combining = unicodedata.category(character) in ("Mn", "Mc", "Me")
        run = run + 1 if combining else 0
        piece = _piece(character, bearer, run)
        yield piece
        if not combining:
            bearer = "" if piece.mark else character


def _piece(character: str, bearer: str, run: int) -> Piece:
    if character in _SIGNS:
        return Piece(_SIGNS[character], True)
    if _hidden(character) or (run and _stray(character, bearer, run)):
        return Piece(f"⟨{name(character)}⟩", True)
    return Piece(character, False)


def _hidden(character: str) -> bool:
    if character == " ":
        return False
    category = unicodedata.category(character)
    return category in _MARKED_CATEGORIES or character in _BLANKS or character in _FORGEABLE


def _stray(character: str, bearer: str, run: int) -> bool:
    """A combining character with nothing to sit on, one too many, or a selector that changes no picture."""
    if _variation_selector(character):
        return not (character == "\ufe0f" and bearer and unicodedata.category(bearer) == "So")
    return run > _COMBINING_RUN or not bearer or bearer == " "


def _variation_selector(character: str) -> bool:
    point = ord(character)
    return 0xFE00 <= point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF or 0x180B <= point <= 0x180F
