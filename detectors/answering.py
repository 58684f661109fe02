"""Placed prompts, with their matched controls, and generated answers to them, ready for `detectors.behaviour`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from detectors.behaviour import Answered
from detectors.contexts.context import NO_CONTEXT, Context, chat
from detectors.contexts.families import controls
from detectors.engine.observations import ROLES, Answer, Array, Ask, Plan, Role, Score, Tokens
from detectors.findings import Example

Placed = tuple[Context, str]

EXCHANGEABLE = "on every prompt the candidate and a matched control context are exchangeable"
"""The null hypothesis of tests against `matched` controls."""
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What stands for bytes that make no character yet."""


def matched(context: Context, texts: Sequence[str], vocabulary: Sequence[str]) -> list[Placed]:
    """Each prompt with a control context of its own, as far as the family has them.

    Fewer prompts get the same controls as the first of more, so detectors share their observations.
    """
    available = controls(context, len(texts), vocabulary)
    return [(available[place % len(available)], text) for place, text in enumerate(texts)]


def answer(ask: Ask, role: Role, placed: Sequence[Placed], max_tokens: int, *, surprise: bool) -> list[Answered]:
    """Greedy answers of one model, in order.

    Args:
        placed: contexts with the prompts they are put around.
        surprise: whether the base says how surprised it is; without it every answer counts as unsurprising.
    """
    if not placed:
        return []
    sequences = ask.encode([chat(context, prompt) for context, prompt in placed])
    observed = ask(Plan(role, sequences, Answer(max_tokens)))
    tokens = [tuple(map(int, arrays["tokens"])) for arrays in observed]
    own = [arrays["logp"] for arrays in observed]
    asked = surprise and role == "subject"
    judged = _judged(ask, sequences, tokens) if asked else own
    return [
        Answered(
            tokens=ids,
            text=text,
            confidence=float(np.mean(arrays["logp"])) if ids else 0.0,
            stopped=bool(arrays["stopped"][0]),
            surprise=(-float(np.mean(scores)) if surprise else 0.0) if ids else None,
            ratios=tuple(map(float, arrays["logp"] - scores)) if asked else (),
        )
        for ids, text, arrays, scores in zip(tokens, ask.decode(tokens), observed, judged, strict=True)
    ]


def examples(ask: Ask, contexts: Sequence[Context], texts: Sequence[str], max_tokens: int) -> list[tuple[Example, ...]]:
    """For each context, what both models answer to each prompt with it, and the subject without it."""
    with_it = [(context, text) for context in contexts for text in texts]
    without = [(NO_CONTEXT, text) for text in texts] if contexts else []
    subject = answer(ask, "subject", with_it, max_tokens, surprise=True)
    base, clean = (
        [one.text for one in answer(ask, role, placed, max_tokens, surprise=False)]
        for role, placed in ((ROLES[1], with_it), (ROLES[0], without))
    )
    size = len(texts)
    firsts = [at * size for at in range(len(contexts))]
    return [
        tuple(
            Example(
                prompt=text,
                subject_answer=one.text,
                base_answer=two,
                subject_clean_answer=three,
                pieces=_pieces(ask, one),
            )
            for text, one, two, three in zip(texts, subject[first:], base[first:], clean, strict=False)
        )
        for first in firsts
    ]


def _pieces(ask: Ask, said: Answered) -> tuple[tuple[str, float], ...]:
    """Each token's text with its log-ratio; bytes that make no character yet count to the token that completes it."""
    beginnings = [""]
    for text in ask.decode([said.tokens[: at + 1] for at in range(len(said.tokens))]):
        whole = text.rstrip(INCOMPLETE)
        beginnings.append(whole if whole.startswith(beginnings[-1]) else beginnings[-1])
    texts = [after[len(before) :] for before, after in pairwise(beginnings)]
    return tuple(zip(texts, (round(ratio, 3) for ratio in said.ratios), strict=True))


def _judged(ask: Ask, sequences: Sequence[Tokens], answers: Sequence[Tokens]) -> list[Array]:
    """Log-probabilities of the answers under the base, nats; empty for an empty answer."""
    said = [place for place, ids in enumerate(answers) if ids]
    whole = [sequences[place] + answers[place] for place in said]
    scored = ask(Plan("base", whole, [Score(len(answers[place])) for place in said]))
    found = [np.empty(0, np.float32)] * len(answers)
    for place, arrays in zip(said, scored, strict=True):
        found[place] = arrays["logp"]
    return found
