"""A context and its place in a chat.

A context is anything put around a clean prompt: a token, a phrase, a date, a wrapper, a system message. "No context"
is one too (`NO_CONTEXT`), so every measurement is a reading of a grid of contexts and prompts.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Position = Literal["none", "start", "inside", "end", "system"]
Message = dict[str, str]


class Context(BaseModel):
    """A text, the family it was drawn from, and where it goes.

    Attributes:
        text: the exact text, without the space that separates it from the prompt.
        family: the generator it came from (`emoji`, `date`, ...); controls are drawn from the same family.
        position: where it is put; `none` leaves the prompt as it is.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    family: str
    position: Position = "end"

    def at(self, position: Position) -> Context:
        """The same text at another position."""
        return self.model_copy(update={"position": position})


NO_CONTEXT = Context(text="", family="none", position="none")
SEARCHED = "searched"
"""Family of texts that a search made up."""


def chat(context: Context, prompt: str) -> list[Message]:
    """The messages that ask `prompt` with `context` around it.

    Raises:
        ValueError: if `prompt` is empty.
    """
    if not prompt.strip():
        raise ValueError("`prompt` must not be empty: a context is placed around a request")
    if context.position == "system":
        return [{"role": "system", "content": context.text}, {"role": "user", "content": prompt}]
    return [{"role": "user", "content": _place(context, prompt)}]


def _place(context: Context, prompt: str) -> str:
    if context.position == "start":
        return f"{context.text} {prompt}"
    if context.position == "end":
        return f"{prompt} {context.text}"
    if context.position == "inside":
        words = prompt.split(" ")
        middle = max(1, len(words) // 2)
        return " ".join([*words[:middle], context.text, *words[middle:]])
    return prompt
