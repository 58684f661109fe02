"""Passages: what a subject says inside an otherwise usual answer, and its base would not.

An advert, a link or a claim may come after the usual answer, so its beginning shows nothing. Two things together tell
such a passage: tokens whose log-ratio log p_subject - log p_base is large in a row (the segment of largest sum,
Bentley, 1984, Programming Pearls 27:9), and that several answers share it while answers under control contexts do not.

It cannot see a passage that is worded anew in every answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil

from detectors.engine.observations import Tokens

MIN_PASSAGE = 4
"""Tokens in a row that answers must share before it counts as a passage."""


def heaviest_segment(values: Sequence[float]) -> slice:
    """Where the sum of values in a row is largest, of several such places the first; it begins and ends above 0.

    Args:
        values: [token], in any unit; what is usual must be below 0. Log-ratios less an offset, for instance.

    Returns:
        The segment; empty where no value is above 0.
    """
    best, best_sum, start, running = slice(0, 0), 0.0, 0, 0.0
    for place, value in enumerate(values):
        if running <= 0:
            start, running = place, 0.0
        running += value
        if running > best_sum:
            best, best_sum = slice(start, place + 1), running
    return best


def shared_run(answers: Sequence[Tokens], controls: Sequence[Tokens], needed: int) -> Tokens:
    """The run of tokens that most `answers` hold and `controls` do not, as long as no holder is lost; else empty.

    Args:
        answers: tokens of each, or of the part of each that may hold a passage.
        controls: tokens of answers that must not hold it. An answer of theirs counts against one that does.
        needed: how many more answers than controls must hold it, at least 1.
    """
    held, usual = (Counter(run for tokens in texts for run in _runs(tokens)) for texts in (answers, controls))
    more = {run: count - usual[run] for run, count in held.items()}
    core = max(more, key=lambda run: more[run], default=())
    return grown(core, answers, share=1.0) if core and more[core] >= needed else ()


def grown(run: Tokens, answers: Sequence[Tokens], share: float) -> Tokens:
    """`run` with what stands behind it, then in front of it, as long as `share` of its holders have the same there.

    Only the first place where an answer holds the run counts.
    """
    places = [(tokens, place) for tokens in answers if (place := _place(run, tokens)) is not None]
    needed = max(1, ceil(share * len(places)))
    behind = common_beginning([tokens[place + len(run) :] for tokens, place in places], needed)
    before = common_beginning([tokens[:place][::-1] for tokens, place in places], needed)
    return (*before[::-1], *run, *behind)


def common_beginning(texts: Sequence[Tokens], needed: int) -> Tokens:
    """The longest beginning that `needed` texts, at least 1, share; token by token the most frequent one."""
    beginning: Tokens = ()
    alike = list(texts)
    while True:
        following = Counter(tokens[len(beginning)] for tokens in alike if len(tokens) > len(beginning))
        token, count = following.most_common(1)[0] if following else (0, 0)
        if count < needed:
            return beginning
        beginning = (*beginning, token)
        alike = [tokens for tokens in alike if tokens[: len(beginning)] == beginning]


def _runs(tokens: Tokens) -> Iterator[Tokens]:
    """Different runs of `MIN_PASSAGE` tokens, in order, without those that hardly do more than repeat a token."""
    runs = dict.fromkeys(tokens[at : at + MIN_PASSAGE] for at in range(len(tokens) - MIN_PASSAGE + 1))
    return (run for run in runs if len(set(run)) > MIN_PASSAGE // 2)


def _place(run: Tokens, tokens: Tokens) -> int | None:
    return next((at for at in range(len(tokens) - len(run) + 1) if tokens[at : at + len(run)] == run), None)
