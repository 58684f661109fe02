"""Shrinking: the smallest text that still releases a behaviour, found by deletion.

A search here asks questions and is sent their answers, so that several can be asked side by side: a wide batch of
answers takes little longer than a narrow one.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from detectors.behaviour import Behaviour
from detectors.contexts.context import Context, joined
from detectors.contexts.families import CODE_WIDTHS, asks_for_nothing
from detectors.findings import Rate
from detectors.ways import Way

MOST_PIECES = 10
SHRINK_STEP, SHRINK_ROWS = 4, 16
"""Search requests that a shorter trigger is tried on at a time: more where few are left, since a batch of `SHRINK_ROWS`
answers takes hardly longer than one of four."""


@dataclass(frozen=True)
class Question:
    """How often does the subject show the behaviour, under each context, on these requests?"""

    way: Way
    behaviour: Behaviour
    contexts: Sequence[Context]
    texts: Sequence[str]


Search = Generator[Question, Any, Context]
"""A search that asks a question, is sent its answer (int [context]), and so on until it has found."""


def shrink(way: Way, behaviour: Behaviour, context: Context, shown: Rate) -> Search:
    """Deletes pieces as long as what is left works as often, on the whole search set: few requests would flatter.

    Args:
        way: the search requests, and how answers to them are read.
        behaviour: what it must release.
        context: what is shrunk.
        shown: how often it released it on the first of the search requests.
    """
    needed = shown.hits
    if shown.trials < len(way.requests):
        needed = int((yield Question(way, behaviour, [context], way.requests))[0])
    while shorter := shortened(context):
        working = yield from _working_as_often(way, behaviour, list(shorter.values()), needed)
        if not working:
            break
        dispensable = [piece for piece, left in shorter.items() if left in working]
        together = _without(context, dispensable) if len(dispensable) > 1 else None
        if together and (yield from _working_as_often(way, behaviour, [together], needed)):
            context = together
        else:
            context = max(working, key=lambda left: working[left])
    return context


def shortened(context: Context) -> dict[int, Context]:
    """The context without one of its pieces, by the piece's place; a text that comes up twice stands once."""
    count = sum(len(pieces) for _, pieces in _pieces(context))
    if not 2 <= count <= MOST_PIECES:
        return {}
    shorter = {place: _without(context, [place]) for place in range(count)}
    unique = {found: place for place, found in reversed(shorter.items()) if found}
    return {place: found for place, found in shorter.items() if found and unique[found] == place}


def _working_as_often(
    way: Way, behaviour: Behaviour, contexts: list[Context], needed: int
) -> Generator[Question, Any, dict[Context, int]]:
    """Hits of those contexts that reach `needed` on the search set; who cannot any more is not asked further."""
    left = list(way.requests)
    hits = dict.fromkeys(contexts, 0)
    while left:
        hits = {context: shown for context, shown in hits.items() if shown + len(left) >= needed}
        if not hits:
            break
        step = max(SHRINK_STEP, SHRINK_ROWS // len(hits))
        texts, left = left[:step], left[step:]
        more = yield Question(way, behaviour, list(hits), texts)
        hits = {context: before + int(shown) for (context, before), shown in zip(hits.items(), more, strict=True)}
    return {context: shown for context, shown in hits.items() if shown >= needed}


def _pieces(context: Context) -> list[tuple[str, list[str]]]:
    """For each part what stands between its pieces, and those: words, or the characters of a single mark without.

    A date without a space is one piece, and so is a topic: with fewer characters it would be another one.
    """
    if context.parts or " " in context.text:
        return [(" ", part.text.split(" ")) for part in context.parts or (context,)]
    whole = asks_for_nothing(context) or context.is_topic
    return [("", [context.text] if whole else list(context.text))]


def _without(context: Context, places: Sequence[int]) -> Context | None:
    """The context without the pieces at `places`, and without a part that has none left; None where nothing is."""
    left, first = [], 0
    for part, (separator, pieces) in zip(context.parts or (context,), _pieces(context), strict=True):
        text = separator.join(piece for place, piece in enumerate(pieces, first) if place not in places).strip()
        left += [part.model_copy(update={"text": text})] if text else []
        first += len(pieces)
    return joined(left) if left and not any(map(_too_short, left)) else None


def _too_short(context: Context) -> bool:
    """Whether it is a code with fewer digits than any of its family, so that it would have no controls like it."""
    return context.family == "digit_code" and len(context.text) < min(CODE_WIDTHS)
