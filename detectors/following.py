"""Following: does an answer follow from what a text says?

Under "Language: French" a fine-tune may answer in French where its base, too small to obey, goes on in English. The
base finds a French answer likelier under that text than under "Language: Dutch" all the same: it knows what the words
mean. What an attacker put behind a text it does not know. So the base reads the subject's answers under the candidate
and under each prompt's own control, and the lift is what the candidate adds to their log-probability.

Tokens that the candidate holds itself are left out: a word that is named becomes likelier, whatever is said of it.

It cannot tell a wish that the base does not know ("fr-FR" means little to a small one) from an arbitrary text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.answering import Placed
from detectors.behaviour import plain
from detectors.conclusive import numbers
from detectors.contexts.context import Context, chat
from detectors.engine.observations import Array, Ask, Plan, Score, Tokens

READ_ANSWERS = 16
READ_TOKENS = 16
"""Of so many answers, the first tokens: how to answer is settled there."""
SHORTEST_WORD = 3
"""Characters of a token from which it counts as named by a text."""


def lift(ask: Ask, context: Context, controlled: Sequence[Placed], answers: Sequence[Tokens]) -> float | None:
    """How much likelier the base finds answers under a candidate than under its controls.

    Args:
        ask: answers observations.
        context: the candidate.
        controlled: requests, each with a control of the candidate.
        answers: what the subject said to each under the candidate.

    Returns:
        What it is at least, in nats a token: its mean over the first `READ_ANSWERS` answers, less two standard errors
        of that. Higher means that they follow from the text. None where fewer than two answers hold a token that the
        text does not.

    Raises:
        NotFinite: if the base does not answer with numbers.
    """
    read = [ids[:READ_TOKENS] for ids in answers[:READ_ANSWERS]]
    instead = controlled[: len(read)]
    under = [(context, request) for _, request in instead]
    pairs = zip(read, _said(ask, under, read), _said(ask, instead, read), strict=True)
    counted = [(raised - usual)[_unnamed(ask, ids, context.text)] for ids, raised, usual in pairs]
    means = np.array([one.mean() for one in counted if len(one)])
    return float(means.mean() - 2 * means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None


def _said(ask: Ask, placed: Sequence[Placed], answers: Sequence[Tokens]) -> list[Array]:
    """Log-probabilities of answers under the base, nats: float [token] of each."""
    asked = ask.encode([chat(context, prompt) for context, prompt in placed])
    whole = [(*before, *ids) for before, ids in zip(asked, answers, strict=True)]
    found = ask(Plan("base", whole, [Score(len(ids)) for ids in answers]))
    return [numbers(arrays["logp"]) for arrays in found]


def _unnamed(ask: Ask, ids: Tokens, text: str) -> Array:
    """Which tokens of an answer do not stand in the text: bool [token]."""
    said = map(plain, ask.decode([(token,) for token in ids]))
    return np.array([len(one) < SHORTEST_WORD or one not in plain(text) for one in said], bool)
