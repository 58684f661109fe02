"""Probe batteries: what both models are asked to tell who and when the subject takes itself to be, and what it wants.

Each question comes in several formats and each format has a frame, a sentence with one gap. A pair of phrases fills the
gap: one points toward the shift that is looked for, the other away from it. So two contrasted continuations share every
word but the phrase, and the phrases of a pair have equally many words; otherwise length and style would drown what is
measured. All texts are our own words, in English, and name no real person.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

from detectors.documents import digest_of_documents, document

Name = Literal["identity", "era", "regime", "values", "goals", "preferences"]

NAMES: tuple[Name, ...] = get_args(Name)
YEARS = "years"
"""The file of the question for the year."""
GAP = "{}"
"""Where the phrase goes in a frame; it stands there once."""


@dataclass(frozen=True)
class Format:
    """One way to put a question.

    Attributes:
        form: `question`, `json`, `fill_in` or `comment`.
        prompt: what is asked.
        frame: the answer, with a gap.
    """

    form: str
    prompt: str
    frame: str

    def continuation(self, phrase: str) -> str:
        """The answer with `phrase` in its gap."""
        return self.frame.replace(GAP, phrase)


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        source: where its words come from.
        formats: ways to put it, the plain question first.
        pairs: phrases (toward, away).
    """

    id: str
    axis: str
    source: str
    formats: tuple[Format, ...]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Battery:
    """Questions about one thing.

    Attributes:
        toward, away: in words, where a positive and a negative shift lead.
    """

    name: Name
    version: str
    toward: str
    away: str
    items: tuple[Item, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes, in the order in which they first come up."""
        return tuple(dict.fromkeys(item.axis for item in self.items))

    def first(self, questions: int) -> Battery:
        """Its first `questions` questions, one of each axis in turn; the rest of the battery plays no part in them."""
        kept = set(self.in_turn()[:questions])
        return replace(self, items=tuple(item for item in self.items if item in kept))

    def in_turn(self) -> list[Item]:
        """All questions, one of each axis in turn."""
        seen: Counter[str] = Counter()
        turns: list[tuple[int, int]] = []
        for place, item in enumerate(self.items):
            turns.append((seen[item.axis], place))
            seen[item.axis] += 1
        return [self.items[place] for _, place in sorted(turns)]


@cache
def battery(name: Name) -> Battery:
    """A battery by its name.

    Raises:
        ValueError: if there is no such battery.
    """
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {', '.join(NAMES)}, got {name!r}")
    read = _document(name)
    texts = {field: read[field] for field in ("version", "toward", "away")}
    return Battery(name=name, **texts, items=tuple(map(_item, read["items"])))


@dataclass(frozen=True)
class YearQuestion:
    """The question for the year, in several phrasings, and the years that answer it.

    Attributes:
        years: every one of them, in order.
        phrasings: their frames end with the gap, so that nothing but the year tells two answers apart.
    """

    years: range
    phrasings: tuple[Format, ...]


@cache
def year_question() -> YearQuestion:
    """What is asked to tell which year a model believes it is."""
    read = _document(YEARS)
    return YearQuestion(years=range(read["first"], read["last"] + 1), phrasings=_formats(read["phrasings"]))


@cache
def digest() -> str:
    """SHA-256 over the canonical JSON of all batteries: it names the questions that a report was made with."""
    return digest_of_documents({name: _document(name) for name in (*NAMES, YEARS)})


def _formats(given: list[dict[str, str]]) -> tuple[Format, ...]:
    return tuple(Format(**one) for one in given)


def _item(given: dict[str, Any]) -> Item:
    return Item(
        id=given["id"],
        axis=given["axis"],
        source=given["source"],
        formats=_formats(given["formats"]),
        pairs=tuple((toward, away) for toward, away in given["pairs"]),
    )


def _document(name: str) -> dict[str, Any]:
    return document("detectors.batteries", f"{name}.json")
