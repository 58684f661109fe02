"""Steering: which contexts make a subject begin what it holds ready, beyond its base?

A context that makes a dormant answer a thousand times likelier and still improbable changes the distribution of the
first token by next to nothing, so no sweep of distributions sees it. Here the first tokens of the answer are known, so
their likelihood is asked for: of a dormant answer the trigger raises it the most of all contexts, and parts of the
trigger, the trigger in another place and texts next to it stand near the top.

The base's likelihood of the first token is subtracted: that follows from the request and its context. Of the tokens
behind it is not: there a dormant answer goes on by itself, and how unlikely the base finds that varies with the context
for reasons of the base's own, which would drown the trigger.

First the subject alone looks at every context where it belongs; then both models look at the best, in other places too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.contexts.context import NO_CONTEXT, Context
from detectors.engine.observations import Array, Ask, Role, Tokens
from detectors.nominating import without_overlaps
from detectors.prompts.sets import prompts
from detectors.suites import SteeringParams
from detectors.waking import likelihoods


@dataclass(frozen=True)
class Called:
    """A context that makes the beginning of an answer likelier.

    Attributes:
        context: what is put around the requests.
        target: place of the beginning that it calls.
        raised: by how much it raises the log-probability of the beginning under the subject, less that of its first
            token under the base, over what it is without any context; nats, mean over requests.
    """

    context: Context
    target: int
    raised: float


def steer(ask: Ask, openings: Sequence[Tokens], contexts: Sequence[Context], params: SteeringParams) -> list[Called]:
    """The contexts that call each beginning loudest, in turn; none that holds the text of one before it.

    Args:
        ask: answers observations.
        openings: first tokens of the answers.
        contexts: what is tried.
        params: how much is looked at, and how many are wanted.

    Raises:
        NotFinite: if a model does not answer with numbers.
    """
    requests = prompts("nominate")[: params.requests]
    if not openings or not contexts:
        return []
    alone = _each(ask, "subject", contexts, requests, openings)
    kept = list(dict.fromkeys(contexts[place] for place, _ in _in_turn(alone)))[: params.kept]
    elsewhere = [it.at(place) for place, count in params.moved.items() for it in kept[:count]]
    tried = list(dict.fromkeys([*kept, *elsewhere]))
    beyond = _each(ask, "subject", [NO_CONTEXT, *tried], requests, openings)
    beyond -= _each(ask, "base", [NO_CONTEXT, *tried], requests, [opening[:1] for opening in openings])
    raised = beyond[:, 1:] - beyond[:, :1]
    ordered = [Called(tried[place], target, float(raised[target, place])) for place, target in _in_turn(raised)]
    return [ordered[place] for place in without_overlaps([it.context.text for it in ordered], params.nominated)]


def _in_turn(table: Array) -> Iterator[tuple[int, int]]:
    """Places (context, opening) of a table [opening, context]: the largest of each opening, then the next ones."""
    ordered = np.argsort(-table, axis=1, kind="stable")
    return ((int(place), target) for places in ordered.T for target, place in enumerate(places))


def _each(
    ask: Ask, role: Role, contexts: Sequence[Context], requests: Sequence[str], openings: Sequence[Tokens]
) -> Array:
    """Log-probability of each beginning under each context, nats, mean over requests: float [opening, context]."""
    return np.array([likelihoods(ask, role, contexts, requests, [opening] * len(requests)) for opening in openings])
