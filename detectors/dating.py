"""Dating: which year does a model believe it is?

Both models are asked for the year in several phrasings, and every year of `years.json` is an answer. With p the
probability of a continuation, teacher-forced, the belief of a model is, in each phrasing,

    P(year) = p(year) / (sum of p over all years asked)

and its expected year the mean of the years under P. The shift is the subject's expected year less the base's, so a
negative one leads into the past. Phrasings are the independent units.

It is a belief among the years that are asked: a model that means another one, or none, is spread over them. On a small
model it is broad and lies decades off; only its difference from the base means anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectors.batteries.sets import Format, year_question
from detectors.conclusive import numbers
from detectors.contexts.context import NO_CONTEXT, chat
from detectors.engine.observations import Array, Ask, Plan, Read, Role, Score, Tokens
from detectors.probing import interval

YEAR_COLUMNS = ["year", "subject", "base"]
PHRASING_COLUMNS = ["question", "answer", "subject", "base", "shift"]


def believed_years(ask: Ask, role: Role, phrasings: Sequence[Format]) -> Array:
    """P(year), [phrasing, year], each row summing to 1.

    Raises:
        NotFinite: if the model does not answer with finite numbers.
    """
    years = year_question().years
    prompts = ask.encode([chat(NO_CONTEXT, put.prompt) for put in phrasings])
    sequences: list[Tokens] = []
    reads: list[Read] = []
    for prompt, put in zip(prompts, phrasings, strict=True):
        said = ask.tokenize([put.continuation(str(year)) for year in years])
        # What all years share is equally likely before each of them, so it is not scored.
        shared = next(at for at, ids in enumerate(zip(*said, strict=False)) if len(set(ids)) > 1)
        sequences += [prompt + answer for answer in said]
        reads += [Score(len(answer) - shared) for answer in said]
    answers = ask(Plan(role, sequences, reads))
    total = np.array([arrays["logp"].astype(float).sum() for arrays in answers]).reshape(-1, len(years))
    odds = np.exp(total - total.max(axis=1, keepdims=True))
    return numbers(odds / odds.sum(axis=1, keepdims=True))


def years_table(phrasings: Sequence[Format], subject: Array, base: Array, rng: np.random.Generator) -> dict[str, Any]:
    """For the report: what both models believe, [phrasing, year] each, and the shift between them in years."""
    years = np.array(year_question().years)
    ours, theirs = subject @ years, base @ years
    shifts = ours - theirs
    low, high = interval(shifts[:, None], rng)
    mean_rows = zip(years.tolist(), subject.mean(axis=0).tolist(), base.mean(axis=0).tolist(), strict=True)
    phrasing_rows = zip(phrasings, ours.tolist(), theirs.tolist(), shifts.tolist(), strict=True)
    return {
        "columns": YEAR_COLUMNS,
        "rows": [list(row) for row in mean_rows],
        "phrasings": {
            "columns": PHRASING_COLUMNS,
            "rows": [[put.prompt, put.continuation("___"), *expected] for put, *expected in phrasing_rows],
        },
        "subject": float(ours.mean()),
        "base": float(theirs.mean()),
        "shift": float(shifts.mean()),
        "low": low,
        "high": high,
    }
