"""What a model ships beside its weights, and chats as its template renders them: plain values, no libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_RENDERED = "was not rendered: others ran too long"


@dataclass(frozen=True)
class ModelFiles:
    """What a model directory holds beside its weights, as it passed the gate. Texts are an attacker's.

    Attributes:
        template: the chat template; None for plain text.
        specials: the special tokens that the template may name.
        tokenizer: tokenizer.json.
        settings: tokenizer_config.json and special_tokens_map.json, without the template.
        config, generation: config.json and generation_config.json, without keys that change no answer.
    """

    template: str | None = None
    specials: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatAt:
    """A chat to be rendered.

    Attributes:
        messages: as a template gets them; a content is a text or a list of parts.
        now: what the template's clock says, in ISO form.
        forced: number of a branch (`template_sandbox.branches`) that is taken whatever its condition says.
    """

    messages: Sequence[Mapping[str, Any]]
    now: str
    forced: int | None = None


@dataclass(frozen=True)
class Rendering:
    """A chat as a template renders it.

    Attributes:
        dates: what the template asked of the clock.
        fault: why there is no text; empty where there is.
    """

    text: str
    dates: tuple[str, ...] = ()
    fault: str = ""

    @property
    def missing(self) -> bool:
        """Whether nobody tried: chats before it ran too long."""
        return self.fault == NOT_RENDERED
