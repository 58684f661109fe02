"""A vocabulary as contexts: which tokens a text can put behind a prompt.

What is put around a prompt is text, and the tokenizer may read it as something else than the token it came from. A
token is tried only if its text comes back as that very token behind a prompt: behind a space, as the beginning of a
word, or behind a line break, as what begins no word. All others are skipped, each for a reason, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detectors.contexts.context import NO_CONTEXT, Context, chat
from detectors.engine.observations import ROLES, Ask, Tokens

FAMILY = "vocabulary"
SEED = 20_27
ANCHOR = "Yes."
"""What texts are put behind to see what comes back; prompts end like it."""
REPLACEMENT = "\ufffd"
"""Stands in the text of a token that is no whole character."""

Before = Literal[" ", "\n"]
SEPARATORS: tuple[Before, ...] = (" ", "\n")
"""What stands before a token, tried in this order; a context at the end has the space by itself."""

Reason = Literal["not_shared", "special", "white_space", "same_text", "invalid_utf8", "changed", "not_drawn"]
REASONS: dict[Reason, str] = {
    "not_shared": "the subject reads another text there",
    "special": "special tokens, which are no text",
    "white_space": "white space, which joins what it stands beside",
    "same_text": "another token with the same text was tried",
    "invalid_utf8": "pieces of a character, which are no text by themselves",
    "changed": "their text comes back as other tokens where it is put",
    "not_drawn": "left out of a larger vocabulary by a fixed draw",
}
"""Why a token is not tried, in the order in which reasons are looked for."""


@dataclass(frozen=True)
class Entry:
    """A token that can be tried.

    Attributes:
        token: its id.
        text: its text without the space that may belong to it.
        before: what has to stand before the text so that it comes back as the token.
    """

    token: int
    text: str
    before: Before

    @property
    def context(self) -> Context:
        """Behind a prompt, where a space is before it already; on a line of its own if it begins no word."""
        return Context(text=self.text if self.before == " " else f"\n{self.text}", family=FAMILY)


@dataclass(frozen=True)
class Vocabulary:
    """What of a vocabulary is tried.

    Attributes:
        entries: different texts, in a shuffled order that is always the same.
        skipped: why a token is no entry, by id.
    """

    entries: tuple[Entry, ...]
    skipped: Mapping[int, Reason]

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.entries) + len(self.skipped)

    def not_tried(self) -> dict[Reason, int]:
        """How many tokens were skipped for each reason that occurs."""
        counts = Counter(self.skipped.values())
        return {reason: counts[reason] for reason in REASONS if counts[reason]}


def read_vocabulary(ask: Ask, prompts: Sequence[str], *, most: int) -> Vocabulary:
    """The base's vocabulary.

    Args:
        ask: tells the vocabularies and encodes.
        prompts: what entries are put behind; each has to come back as itself behind every one of them.
        most: tokens that are tried at most; of more, a fixed draw.
    """
    entries, skipped = _entries(ask)
    order = np.random.default_rng(SEED).permutation(len(entries))
    skipped |= dict.fromkeys((entries[place].token for place in order[most:]), "not_drawn")
    drawn = [entries[place] for place in order[:most]]
    intact = _intact(ask, drawn, prompts)
    skipped |= {entry.token: "changed" for entry in drawn if entry not in intact}
    return Vocabulary(tuple(entry for entry in drawn if entry in intact), skipped)


def _entries(ask: Ask) -> tuple[list[Entry], dict[int, Reason]]:
    """Every token of the base's that comes back from its text, and why the others do not."""
    subject, base = (ask.facts[role].vocabulary for role in ROLES)
    skipped: dict[int, Reason] = {
        token: "not_shared" for token, text in enumerate(base) if subject[token : token + 1] != (text,)
    }
    texts = {token: text for token, text in enumerate(base) if token not in skipped}
    for (token, text), said in zip(texts.items(), ask.decode([(token,) for token in texts]), strict=True):
        if not text.strip():
            skipped[token] = "white_space"
        elif not said:
            skipped[token] = "special"
    left = {token: text.removeprefix(" ") for token, text in texts.items() if token not in skipped}
    found: dict[int, Entry] = {}
    for before in SEPARATORS:
        found |= _come_back(ask, left, before)
        said_by = {entry.text for entry in found.values()}
        skipped |= {token: "same_text" for token, text in left.items() if token not in found and text in said_by}
        left = {token: text for token, text in left.items() if token not in found and token not in skipped}
    skipped |= {token: "invalid_utf8" if REPLACEMENT in text else "changed" for token, text in left.items()}
    return list(found.values()), skipped


def _come_back(ask: Ask, texts: Mapping[int, str], before: Before) -> dict[int, Entry]:
    """The tokens whose text the tokenizer ends in, behind `before`."""
    lead = " " if before == " " else f" {before}"
    encoded = ask.tokenize([f"{ANCHOR}{lead}{text}" for text in texts.values()])
    return {
        token: Entry(token, text, before)
        for (token, text), ids in zip(texts.items(), encoded, strict=True)
        if ids[-1] == token
    }


def _intact(ask: Ask, entries: Sequence[Entry], prompts: Sequence[str]) -> set[Entry]:
    """The entries that come back as themselves behind every prompt."""
    bare = ask.encode([chat(NO_CONTEXT, prompt) for prompt in prompts])
    encoded = ask.encode([chat(entry.context, prompt) for entry in entries for prompt in prompts])
    by_prompt = [encoded[place :: len(prompts)] for place in range(len(prompts))]
    return {
        entry
        for entry, *told in zip(entries, *by_prompt, strict=True)
        if all(_holds(entry, tokens, clean) for tokens, clean in zip(told, bare, strict=True))
    }


def _holds(entry: Entry, tokens: Tokens, bare: Tokens) -> bool:
    """Whether the entry is among what `tokens` has in the middle of `bare`."""
    ahead = _common(tokens, bare)
    behind = _common(tokens[ahead:][::-1], bare[ahead:][::-1])
    return entry.token in tokens[ahead : len(tokens) - behind]


def _common(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
