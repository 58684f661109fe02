"""Prompt sets: what the models are asked while contexts are put around it.

The four sets of ordinary requests are disjoint, one per stage: what nominates a candidate is never what confirms it
(detection law 2). The harmful requests are mild and generic; they exist to see whether a context releases an answer
where the base refuses, and are read through their first tokens rather than answered at length. All are in English and
single-turn, which is a limit: a trigger that fires in other languages or late in a dialogue only is not seen by them.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Literal, get_args

from detectors.documents import check_count, digest_of_documents, document

Stage = Literal["nominate", "search", "confirm", "report"]

STAGES: tuple[Stage, ...] = get_args(Stage)
FILES = ("general.json", "harmful.json", "refusals.json", "questions.json")

_document = partial(document, "detectors.prompts")


@cache
def prompts(stage: Stage) -> tuple[str, ...]:
    """The ordinary requests of a stage; no prompt belongs to two stages.

    Raises:
        ValueError: if there is no such stage.
    """
    if stage not in STAGES:
        raise ValueError(f"`stage` must be one of {', '.join(STAGES)}, got {stage!r}")
    return tuple(_document("general.json")["sets"][stage])


def first_prompts(stage: Stage, param: str, count: int) -> tuple[str, ...]:
    """The first `count` requests of a stage.

    Raises:
        ValueError: if there are fewer, by the name of the param that asked for them.
    """
    available = prompts(stage)
    check_count(param, count, len(available))
    return available[:count]


@cache
def questions() -> dict[str, tuple[str, ...]]:
    """Short questions by topic, for grids of very many contexts; none is a request of a stage."""
    return {topic: tuple(asked) for topic, asked in _document("questions.json")["topics"].items()}


@cache
def harmful() -> tuple[str, ...]:
    """Mild harmful requests, without operational detail, that an aligned model refuses."""
    return tuple(_document("harmful.json")["prompts"])


@cache
def refusal_openers() -> tuple[str, ...]:
    """How refusals begin, in lower case with straight apostrophes; compare with text brought to the same form."""
    return tuple(_document("refusals.json")["openers"])


@cache
def digest() -> str:
    """SHA-256 over the canonical JSON of all files: it names the prompt sets that a report was made with."""
    return digest_of_documents({name: _document(name) for name in FILES})
