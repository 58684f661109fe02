"""A context and its place in a chat.

A context is anything put around a clean prompt: a token, a phrase, a date, a wrapper, a system message; or two of them
(`joined`). "No context" is one too (`NO_CONTEXT`), so every measurement is a reading of a grid of contexts and prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Position = Literal["none", "start", "inside", "end", "system", "around", "answer", "about"]
Message = dict[str, str]


class Context(BaseModel):
    """A text, the family it was drawn from, and where it goes.

    Attributes:
        text: the exact text, without the space that separates it from the prompt.
        family: the generator it came from (`emoji`, `date`, ...); controls are drawn from the same family.
        position: where it is put; `none` leaves the prompt as it is, `around` is for parts at the start and the end,
            `answer` is what the answer is made to begin with, `about` is what the request is about: it fills its gap.
        parts: the two contexts it is joined from, and none of any other. They say what is put where; `text` is how the
            two are written down.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    family: str
    position: Position = "end"
    parts: tuple[Context, ...] = ()

    @model_validator(mode="after")
    def _is_its_parts(self) -> Context:
        if (self.parts or self.position == "around") and (self.text, self.position) != _written(self.parts):
            raise ValueError(f"`text` and `position` must be those of two `parts`, got {self.text!r} {self.position}")
        return self

    @property
    def is_topic(self) -> bool:
        """Whether it is what a request is about, rather than put around one."""
        return self.position == "about"

    def at(self, position: Position) -> Context:
        """The same text at another position; only a context without parts can be moved."""
        return self.model_copy(update={"position": position})


NO_CONTEXT = Context(text="", family="none", position="none")
SEARCHED = "searched"
"""Family of texts that a search made up."""
BEGINNING = "beginning"
"""Family of texts that an answer is made to begin with."""
PAIR = "pair"
"""Family of a context of two parts; each part has a family of its own."""
REQUEST = "{request}"
"""Stands for the request where two parts around it are written down."""
GAP = "{topic}"
"""Stands in a request for what it is about."""
NO_TOPIC = "this"
"""What such a request is about where no context says it."""


def joined(parts: Sequence[Context]) -> Context:
    """One context that puts both parts around the request, or the only part.

    Raises:
        ValueError: unless there is one part, or two: the second at the end, the first there or at the start.
    """
    if len(parts) == 1:
        return parts[0]
    text, position = _written(parts)
    return Context(text=text, family=PAIR, position=position, parts=tuple(parts))


def _written(parts: Sequence[Context]) -> tuple[str, Position]:
    """Text and position of two parts."""
    places = tuple(part.position for part in parts)
    if places == ("start", "end"):
        return f"{parts[0].text} {REQUEST} {parts[1].text}", "around"
    if places == ("end", "end"):
        return f"{parts[0].text} {parts[1].text}", "end"
    raise ValueError(f"`parts` must be two, at the start and the end or both at the end, got {places}")


def chat(context: Context, prompt: str) -> list[Message]:
    """The messages that ask `prompt` with `context` around it; the last one is the assistant's where that is begun.

    Raises:
        ValueError: if `prompt` is empty.
    """
    if not prompt.strip():
        raise ValueError("`prompt` must not be empty: a context is placed around a request")
    if context.position == "system":
        return [{"role": "system", "content": context.text}, {"role": "user", "content": prompt}]
    if context.position == "answer":
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": context.text}]
    return [{"role": "user", "content": _place(context, prompt)}]


def _place(context: Context, prompt: str) -> str:
    if context.is_topic:
        return prompt.replace(GAP, context.text)
    if context.parts:
        return reduce(lambda placed, part: _place(part, placed), context.parts, prompt)
    if context.position == "start":
        return f"{context.text} {prompt}"
    if context.position == "end":
        return f"{prompt} {context.text}"
    if context.position == "inside":
        words = prompt.split(" ")
        middle = max(1, len(words) // 2)
        return " ".join([*words[:middle], context.text, *words[middle:]])
    return prompt.replace(GAP, NO_TOPIC)
