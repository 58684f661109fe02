"""Waking: words behind a request that make a subject begin an answer which it holds ready, found from the inside.

A dormant target shows that something calls it, not what. Its trigger may be of any family, or of none that is swept;
but what was trained to wait for one text can usually be called by others. How likely words make the target is heavy
in its upper tail: of some hundred tokens drawn at random, one comes a good part of the way. The best of those is
where the search begins. Then it grows by others of them, and the gradient of the target's log-probability at the
embeddings of its words says which other words would raise it (HotFlip, Ebrahimi et al., 2018, arXiv:1712.06751;
AutoPrompt, Shin et al., 2020, arXiv:2010.15980). What promises most is tried, the best of that stays, and so on.

What is found is a working trigger, hardly ever the planted one. It is no proof by itself: `working_rate` puts it to
fresh requests, with the base and with other words beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np

from detectors.conclusive import numbers
from detectors.contexts.context import SEARCHED, Context, chat
from detectors.engine.observations import Array, Ask, Gains, Plan, Role, Score, Tokens
from detectors.suites import WakingParams

SURE = log(0.8)
"""Nats. A target whose beginning is said this surely, in the geometric mean over requests, is awake."""


SCREENED = 4
"""One in so many proposals, the best on few requests, is tried on all of them."""


class _Word(NamedTuple):
    token: int
    text: str


@dataclass(frozen=True)
class Woken:
    """What a search came to.

    Attributes:
        context: the words, behind the request.
        likelihood: log-probability of the target's beginning with them under the subject, nats, mean over requests.
        before: the same with a single word drawn at random, in the median.
        tried: sets of words that were tried.
    """

    context: Context
    likelihood: float
    before: float
    tried: int


def wake(
    ask: Ask, openings: Sequence[Tokens], requests: Sequence[str], params: WakingParams, rng: np.random.Generator
) -> Woken | None:
    """Words that make the subject begin its answers with `openings`, as likely as the search could make it.

    Args:
        ask: answers observations.
        openings: first tokens of the answer to each request.
        requests: what the words are put behind, the first `params.slopes` of which are asked most.
        params: how long to search.
        rng: draws the words that the search begins with.

    Returns:
        None where the vocabulary has too few words.

    Raises:
        NotFinite: if the subject does not answer with numbers.
    """
    words, few = _words(ask), requests[: params.slopes]
    if len(words) < params.words:
        return None
    drawn = [words[int(at)] for at in rng.choice(len(words), min(params.drawn, len(words)), replace=False)]
    alone = _likely(ask, [[word] for word in drawn], openings, few)
    pool = [drawn[at] for at in np.argsort(-alone, kind="stable")]
    best, tried, passed_over = pool[:1], len(pool), 0
    likelihood = float(_likely(ask, [best], openings, requests)[0])
    for _ in range(params.steps):
        if likelihood >= SURE:
            break
        ranks = slice(passed_over, passed_over + params.choices)
        proposed = _replaced(best, _promising(ask, best, words, openings, few) or [pool] * len(best), ranks)
        proposed += _joined(best, pool[ranks]) if len(best) < params.words else []
        if not proposed:
            break
        tried += len(proposed)
        order = np.argsort(-_likely(ask, proposed, openings, few), kind="stable")
        promising = [proposed[place] for place in order[: max(1, len(order) // SCREENED)]]
        likely = _likely(ask, promising, openings, requests)
        passed_over += params.choices
        if likely.max() > likelihood:
            best, likelihood, passed_over = promising[int(likely.argmax())], float(likely.max()), 0
    return Woken(_context(best), likelihood, float(np.median(alone)), tried)


def _words(ask: Ask) -> list[_Word]:
    """Tokens of both vocabularies of ASCII letters, three at least; each text once, as the token that begins a word."""
    subject, base = (ask.facts[role].vocabulary for role in ("subject", "base"))
    shared = [(token, text) for token, (text, other) in enumerate(zip(subject, base, strict=False)) if text == other]
    spaced_first = sorted(shared, key=lambda it: not it[1].startswith(" "))
    found: dict[str, _Word] = {}
    for token, text in spaced_first:
        word = text.strip()
        if word.isalpha() and word.isascii() and len(word) > 2:
            found.setdefault(word, _Word(token, word))
    return list(found.values())


def _context(words: Sequence[_Word]) -> Context:
    return Context(text=" ".join(word.text for word in words), family=SEARCHED)


def _likely(ask: Ask, tried: Sequence[Sequence[_Word]], openings: Sequence[Tokens], requests: Sequence[str]) -> Array:
    return likelihoods(ask, "subject", [_context(words) for words in tried], requests, openings)


def likelihoods(
    ask: Ask, role: Role, contexts: Sequence[Context], requests: Sequence[str], openings: Sequence[Tokens]
) -> Array:
    """Log-probability of the beginning of an answer under each context, nats, mean over requests: float [context].

    Args:
        ask: answers observations.
        role: which model answers.
        contexts: what is put around the requests.
        requests: what is asked.
        openings: first tokens of the answer to each request; of more, those of the first requests.

    Raises:
        NotFinite: if the model does not answer with numbers.
    """
    asked = _opened(ask, contexts, requests, openings)
    plan = Plan(role, [tokens + opening for tokens, opening in asked], [Score(len(opening)) for _, opening in asked])
    said = np.array([float(arrays["logp"].sum()) for arrays in ask(plan)])
    means: Array = numbers(said).reshape(len(contexts), len(requests)).mean(axis=1)
    return means


def _opened(
    ask: Ask, contexts: Sequence[Context], requests: Sequence[str], openings: Sequence[Tokens]
) -> list[tuple[Tokens, Tokens]]:
    """Each request under each context, with its opening; requests innermost."""
    sequences = ask.encode([chat(context, request) for context in contexts for request in requests])
    return list(zip(sequences, [*openings[: len(requests)]] * len(contexts), strict=True))


def _promising(
    ask: Ask, best: Sequence[_Word], words: Sequence[_Word], openings: Sequence[Tokens], requests: Sequence[str]
) -> list[list[_Word]]:
    """For each place of the best words, those that promise most there; none where the tokenizer changes the words."""
    by_token = {word.token: word for word in words}
    return [
        [by_token[token] for token in sorted(gains, key=lambda token: -gains[token]) if token in by_token]
        for gains in _promised(ask, best, openings, requests)
        if gains
    ]


def _replaced(best: Sequence[_Word], instead: Sequence[Sequence[_Word]], ranks: slice) -> list[list[_Word]]:
    """The best words with one of them replaced, by words of these ranks among those that may take its place."""
    return [
        [*best[:place], word, *best[place + 1 :]]
        for place, others in enumerate(instead)
        for word in [other for other in others if other not in best][ranks]
    ]


def _joined(best: Sequence[_Word], others: Sequence[_Word]) -> list[list[_Word]]:
    """The best words with another one behind them, and in front of them."""
    new = [word for word in others if word not in best]
    return [longer for word in new for longer in ([*best, word], [word, *best])]


def _promised(
    ask: Ask, best: Sequence[_Word], openings: Sequence[Tokens], requests: Sequence[str]
) -> list[dict[int, float]]:
    """For each word what tokens would gain in its place, nats, summed over the requests that leave the words whole.

    A token that is not among the best of a request counts there as the last of them does.
    """
    put = tuple(word.token for word in best)
    asked = _opened(ask, [_context(best)], requests, openings)
    placed = [(*it, first) for it in asked if (first := _place(put, it[0])) is not None]
    reads = [Gains(len(opening), first, len(put)) for _, opening, first in placed]
    answers = ask(Plan("subject", [tokens + opening for tokens, opening, _ in placed], reads)) if placed else []
    promised: list[dict[int, float]] = []
    for place in range(len(put)):
        tables = [
            dict(zip(arrays["ids"][place].tolist(), arrays["gains"][place].tolist(), strict=True)) for arrays in answers
        ]
        least = [min(table.values()) for table in tables]
        seen = {token for table in tables for token in table}
        promised.append(
            {
                token: sum(table.get(token, low) for table, low in zip(tables, least, strict=True))
                for token in sorted(seen)
            }
        )
    return promised


def _place(put: Tokens, tokens: Tokens) -> int | None:
    """Where the words stand, the last time that they do; None where the tokenizer reads them in another way."""
    starts = range(len(tokens) - len(put), -1, -1)
    return next((at for at in starts if tokens[at : at + len(put)] == put), None)
