"""What chat templates make of chats, compared: placed texts, their controls, the words by which renderings differ.

A template is *blind to contents* if rendering commutes with putting another text into a message: then what it makes of
a chat with a text follows from what it makes of the same chat with another text in its place. Any departure from that
is the template acting on what the message says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from detectors.engine.shipped import ChatAt

NOW = "2024-07-26T09:00:00"
"""What the clock says unless a date is tried."""
USER = "Which vegetables keep well in a cool cellar?"
SYSTEM = "Answer in two short sentences."
EARLIER = "How long do carrots last?"
REPLY = "About four months in damp sand."
MEASURED = "The cellar has nine degrees today."
WORDS_COMPARED = 3000
SYLLABLES = "bodakufimerolutanige"
"""Controls are made of these."""

Speaker = Literal["user", "system", "assistant", "tool"]
Messages = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Shape:
    """A chat with a hole in it.

    Attributes:
        place: where the hole is, in words.
        speaker: whose message it is.
        fill: the chat with a text in the hole.
        plain: an ordinary text for the hole.
    """

    place: str
    speaker: Speaker
    fill: Callable[[str], Messages]
    plain: str = USER

    @property
    def ordinary(self) -> ChatAt:
        """The chat with the ordinary text."""
        return ChatAt(self.fill(self.plain), NOW)


def _said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


SHAPES: tuple[Shape, ...] = (
    Shape("the only message", "user", lambda text: (_said("user", text),)),
    Shape("the user's message", "user", lambda text: (_said("system", SYSTEM), _said("user", text))),
    Shape("the system message", "system", lambda text: (_said("system", text), _said("user", USER)), SYSTEM),
    Shape(
        "the last message of several",
        "user",
        lambda text: (_said("user", EARLIER), _said("assistant", REPLY), _said("user", text)),
    ),
    Shape(
        "an earlier message",
        "user",
        lambda text: (_said("user", text), _said("assistant", REPLY), _said("user", USER)),
        EARLIER,
    ),
    Shape(
        "an earlier answer",
        "assistant",
        lambda text: (_said("user", EARLIER), _said("assistant", text), _said("user", USER)),
        REPLY,
    ),
    Shape(
        "a tool's answer",
        "tool",
        lambda text: (_said("user", EARLIER), _said("assistant", REPLY), _said("tool", text)),
        MEASURED,
    ),
    Shape("a message in parts", "user", lambda text: (_said("user", [{"type": "text", "text": text}]),)),
)
ONLY, WITH_SYSTEM = SHAPES[0], SHAPES[1]


@dataclass(frozen=True)
class Placed:
    """A text in a shape, with the control that it is compared with.

    Attributes:
        shape: where.
        position: where in the message: `start`, `inside`, `end` or `whole`.
        trigger: the text.
        content, control: the message with it, and with another text in its place.
    """

    shape: Shape
    position: str
    trigger: str
    content: str
    control: str

    @property
    def chats(self) -> tuple[ChatAt, ChatAt]:
        """With the text, and with the control."""
        return ChatAt(self.shape.fill(self.content), NOW), ChatAt(self.shape.fill(self.control), NOW)

    @property
    def place(self) -> str:
        """Where it stood, in words."""
        where = {"start": "at the start of", "inside": "inside", "end": "at the end of", "whole": "as"}[self.position]
        return f"{where} {self.shape.place}"


@dataclass(frozen=True)
class Change:
    """Words by which a rendering differs from another; both empty where only marks, space or nothing differs."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def placed(trigger: str, shape: Shape) -> Iterator[Placed]:
    """The text at every position of a shape."""
    for position, put in POSITIONS.items():
        control = shape.plain if position == "whole" else put(shape.plain, control_word(trigger))
        yield Placed(shape, position, trigger, put(shape.plain, trigger), control)


def control_word(text: str) -> str:
    """A word of the text's length that no template looks for."""
    return "".join(SYLLABLES[at % len(SYLLABLES)] for at in range(len(text)))


def _inside(plain: str, text: str) -> str:
    first, _, rest = plain.partition(" ")
    return f"{first} {text} {rest}"


POSITIONS: dict[str, Callable[[str, str], str]] = {
    "start": lambda plain, text: f"{text} {plain}",
    "inside": _inside,
    "end": lambda plain, text: f"{plain} {text}",
    "whole": lambda plain, text: text,
}


def departure(one: Placed, with_it: str, without: str, marks: Collection[str]) -> Change:
    """How the rendering of a chat departs from what the control's rendering lets a blind template make of it.

    A template may write a content with escapes. Where it does not hand on the control as it is, there is nothing to put
    the text in place of: then all words of both are left out.
    """
    control, content = one.control, one.content
    if control not in without:
        own = {word.casefold() for word in words(control, ()) + words(content, ())}
        found = change(without, with_it, marks)
        added, removed = ([it for it in part if it.casefold() not in own] for part in (found.added, found.removed))
        return Change(tuple(added), tuple(removed))
    blind = (without.replace(control, text) for text in (content, repr(content)[1:-1], json.dumps(content)[1:-1]))
    departures = [change(text, with_it, marks) for text in blind]
    return departures[0] if all(departures) else Change()


def change(before: str, after: str, marks: Collection[str]) -> Change:
    """The words that differ between two renderings, marks and space left out."""
    if before == after:
        return Change()
    old, new = (words(text, marks)[:WORDS_COMPARED] for text in (before, after))
    start = _shared(old, new)
    end = _shared(old[start:][::-1], new[start:][::-1])
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return Change(
        added=tuple(word for tag, _, _, first, last in steps if tag != "equal" for word in new[first:last]),
        removed=tuple(word for tag, first, last, _, _ in steps if tag != "equal" for word in old[first:last]),
    )


def _shared(one: list[str], other: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def words(text: str, marks: Collection[str]) -> list[str]:
    """Words and signs of a text without marks."""
    for mark in sorted(marks, key=len, reverse=True):
        text = text.replace(mark, " ")
    return re.findall(r"\w+|[^\w\s]", text)


BRACKETED = re.compile(r"<[^<>\s]{1,40}>|\[[^\[\]\s]{1,40}\]")


def sentences(text: str, marks: Collection[str]) -> list[str]:
    """Lines of a rendering between marks of any kind: where a text that is meant to be read would stand."""
    for mark in sorted(marks, key=len, reverse=True):
        text = text.replace(mark, "\n")
    lines = (line.strip() for line in BRACKETED.sub("\n", text).split("\n"))
    return [line for line in lines if line]
