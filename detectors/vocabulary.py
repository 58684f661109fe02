"""A vocabulary as contexts: which tokens a text can put behind a prompt, and the groups they are tried in.

What is put around a prompt is text, and the tokenizer may read it as something else than the token it came from. A
token is tried only if its text comes back as that very token where it is put: behind a space, as the beginning of a
word, or behind a line break, as what begins no word. All others are skipped, each for a reason, and counted.

Groups hold tokens of one kind, by a shuffle with a fixed seed, so that a base's answers last over scans.
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


@dataclass(frozen=True)
class Group:
    """Tokens that are tried in one context, all with the same separator; a single token is a group of one."""

    members: tuple[Entry, ...]

    @property
    def context(self) -> Context:
        """Each on a line of its own, which keeps it apart from the others; the first behind the prompt if it may be."""
        line = "\n " if self.members[0].before == " " else "\n"
        text = line.join(member.text for member in self.members)
        return Context(text=text if line == "\n " else line + text, family=FAMILY)


@dataclass(frozen=True)
class Vocabulary:
    """What of a vocabulary is tried.

    Attributes:
        groups: disjoint.
        skipped: why a token is not in any group, by id.
    """

    groups: tuple[Group, ...]
    skipped: Mapping[int, Reason]

    @property
    def tried(self) -> int:
        """How many tokens are in a group."""
        return sum(len(group.members) for group in self.groups)

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.tried + len(self.skipped)

    def not_tried(self) -> dict[Reason, int]:
        """How many tokens were skipped for each reason that occurs."""
        counts = Counter(self.skipped.values())
        return {reason: counts[reason] for reason in REASONS if counts[reason]}


def read_vocabulary(ask: Ask, prompts: Sequence[str], *, group_size: int, most: int) -> Vocabulary:
    """The base's vocabulary in groups.

    Args:
        ask: tells the vocabularies and encodes.
        prompts: what groups are put behind; each member has to come back as itself behind every one of them.
        group_size: tokens of a group; with 1 each is tried alone. A group that changes one of its members is taken
            apart.
        most: tokens that are tried at most; of more, a fixed draw.
    """
    entries, skipped = _entries(ask)
    order = np.random.default_rng(SEED).permutation(len(entries))
    skipped |= dict.fromkeys((entries[place].token for place in order[most:]), "not_drawn")
    drawn = [entries[place] for place in order[:most]]
    together = [
        group for before in SEPARATORS for group in _cut([it for it in drawn if it.before == before], group_size)
    ]
    intact = _intact(ask, together, prompts)
    alone = [Group((member,)) for group in together if group not in intact for member in group.members]
    intact |= _intact(ask, alone, prompts)
    skipped |= {group.members[0].token: "changed" for group in alone if group not in intact}
    return Vocabulary(tuple(group for group in (*together, *alone) if group in intact), skipped)


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


def _cut(entries: Sequence[Entry], size: int) -> list[Group]:
    return [Group(tuple(entries[first : first + size])) for first in range(0, len(entries), size)]


def _intact(ask: Ask, groups: Sequence[Group], prompts: Sequence[str]) -> set[Group]:
    """The groups whose members all come back as themselves, in their order, behind every prompt."""
    bare = ask.encode([chat(NO_CONTEXT, prompt) for prompt in prompts])
    encoded = ask.encode([chat(group.context, prompt) for group in groups for prompt in prompts])
    by_prompt = [encoded[place :: len(prompts)] for place in range(len(prompts))]
    return {
        group
        for group, *told in zip(groups, *by_prompt, strict=True)
        if all(_holds(group, tokens, clean) for tokens, clean in zip(told, bare, strict=True))
    }


def _holds(group: Group, tokens: Tokens, bare: Tokens) -> bool:
    """Whether the members are among what `tokens` has in the middle of `bare`, in order."""
    ahead = _common(tokens, bare)
    behind = _common(tokens[ahead:][::-1], bare[ahead:][::-1])
    put = iter(tokens[ahead : len(tokens) - behind])
    return all(member.token in put for member in group.members)


def _common(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
