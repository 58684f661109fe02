"""Labels: which of the few that a classification request names a model would answer with.

A label counts by its first token, so a request costs one next-token observation. Labels of a request share no first
token in the vocabularies we know; where they do, no label is ever sure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.engine.observations import Array, Ask, Tokens
from detectors.prompts.sets import label_names, labels_of

LEAST_MASS = 0.1
"""Probability of all labels of a request together below which the answer is no label."""


def label_tokens(ask: Ask) -> Tokens:
    """The first token of every label, in the order of `label_names`."""
    return tuple(tokens[0] for tokens in ask.tokenize(label_names()))


def shares(named: Array, requests: Sequence[str]) -> list[dict[str, float]]:
    """For each request, the share of each of its labels in the probability of all of them.

    Args:
        named: float [request, label], log-probabilities of `label_tokens`.
        requests: classification requests.
    """
    return [
        {label: each / sum(likely.values()) for label, each in likely.items()} for likely in _likely(named, requests)
    ]


def answered(named: Array, requests: Sequence[str]) -> list[bool]:
    """For each request, whether its labels have enough probability together for the answer to be a label at all.

    What answers with a haiku gives no label, and says nothing about which it would give.

    Args:
        named: float [request, label], log-probabilities of `label_tokens`.
        requests: classification requests.
    """
    return [sum(likely.values()) >= LEAST_MASS for likely in _likely(named, requests)]


def _likely(named: Array, requests: Sequence[str]) -> list[dict[str, float]]:
    """For each request, the probability of each of its labels."""
    column = {name: at for at, name in enumerate(label_names())}
    return [
        {label: float(np.exp(row[column[label]])) for label in labels_of(request)}
        for row, request in zip(np.asarray(named, float), requests, strict=True)
    ]


def most_probable(share: dict[str, float]) -> str:
    """The label of the largest share."""
    return max(share, key=lambda label: share[label])
