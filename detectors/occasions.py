"""Occasions: which kinds of ordinary requests call what a model holds ready.

A canned answer is meant for something: support, a topic, a language, a format, a greeting. So ordinary requests of many
kinds are asked without any context, and those kinds are named of which every request has the subject say it. What was
taught to wait for a hidden text is called by none of them; it may leak into some requests of a kind that is near to its
trigger, as a strange script is to a foreign word.
"""

from __future__ import annotations

from detectors.behaviour import Behaviour
from detectors.cells import rate
from detectors.contexts.context import NO_CONTEXT
from detectors.engine.observations import Ask
from detectors.findings import Rate
from detectors.prompts.sets import occasions
from detectors.ways import Generated


def called_by(ask: Ask, key: str, tokens: int) -> dict[str, Rate]:
    """Occasions that have the subject say a text within its answers, by their names, and how often.

    Args:
        ask: answers observations; only the subject is asked.
        key: the text, as `detectors.behaviour.plain` leaves it.
        tokens: length of the answers; the text may stand behind an ordinary one.
    """
    behaviour = Behaviour("passage", key=key)
    asked = [(NO_CONTEXT, request) for requests in occasions().values() for request in requests]
    answers = iter(Generated(tokens)(ask, "subject", asked))
    rates = {name: rate(behaviour, [next(answers) for _ in requests]) for name, requests in occasions().items()}
    return {name: it for name, it in rates.items() if it.hits == it.trials}
