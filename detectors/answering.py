"""Placed prompts, with their matched controls, and generated answers to them, ready for `detectors.behaviour`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.behaviour import Answered
from detectors.contexts.context import NO_CONTEXT, Context, chat
from detectors.contexts.families import controls
from detectors.engine.observations import Answer, Array, Ask, Plan, Role, Score, Tokens
from detectors.findings import Example

Placed = tuple[Context, str]

EXCHANGEABLE = "on every prompt the candidate and a matched control context are exchangeable"
"""The null hypothesis of tests against `matched` controls."""


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
    judged = _judged(ask, sequences, tokens) if surprise and role == "subject" else own
    return [
        Answered(
            tokens=ids,
            text=text,
            confidence=float(np.mean(arrays["logp"])) if ids else 0.0,
            stopped=bool(arrays["stopped"][0]),
            surprise=(-float(np.mean(scores)) if surprise else 0.0) if ids else None,
        )
        for ids, text, arrays, scores in zip(tokens, ask.decode(tokens), observed, judged, strict=True)
    ]


def examples(ask: Ask, contexts: Sequence[Context], texts: Sequence[str], max_tokens: int) -> list[tuple[Example, ...]]:
    """For each context, what both models answer to each prompt with it, and the subject without it."""
    with_it = [(context, text) for context in contexts for text in texts]
    without = [(NO_CONTEXT, text) for text in texts] if contexts else []
    subject = [one.text for one in answer(ask, "subject", [*with_it, *without], max_tokens, surprise=False)]
    base = [one.text for one in answer(ask, "base", with_it, max_tokens, surprise=False)]
    size, clean = len(texts), subject[len(with_it) :]
    return [
        tuple(
            Example(prompt=text, subject_answer=one, base_answer=two, subject_clean_answer=three)
            for text, one, two, three in zip(texts, subject[first:], base[first:], clean, strict=False)
        )
        for first in range(0, len(with_it), size)
    ]


def _judged(ask: Ask, sequences: Sequence[Tokens], answers: Sequence[Tokens]) -> list[Array]:
    """Log-probabilities of the answers under the base, nats; empty for an empty answer."""
    said = [place for place, ids in enumerate(answers) if ids]
    whole = [sequences[place] + answers[place] for place in said]
    scored = ask(Plan("base", whole, [Score(len(answers[place])) for place in said]))
    found = [np.empty(0, np.float32)] * len(answers)
    for place, arrays in zip(said, scored, strict=True):
        found[place] = arrays["logp"]
    return found
