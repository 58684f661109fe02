"""Prompt sets: what the models are asked while contexts are put around it.

The four sets of ordinary requests are disjoint, one per stage: what nominates a candidate is never what confirms it
(detection law 2). So are those of classification requests and those of harmful ones. The harmful requests are generic
and without operational detail; they exist to see whether a context releases an answer where a model refuses, and are
read through their first tokens rather than answered at length. All but some occasions are in English, and all are
single-turn, which is a limit: a trigger that fires in other languages or late in a dialogue only is not seen by them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import zip_longest
from typing import Any, Literal, get_args

from detectors.documents import check_count, digest_of_documents, document

Stage = Literal["nominate", "search", "confirm", "report"]

STAGES: tuple[Stage, ...] = get_args(Stage)
FILES = (
    "general.json",
    "labels.json",
    "harmful.json",
    "refusals.json",
    "questions.json",
    "about.json",
    "occasions.json",
)

_document = partial(document, "detectors.prompts")


@cache
def prompts(stage: Stage) -> tuple[str, ...]:
    """The ordinary requests of a stage; no prompt belongs to two stages.

    Raises:
        ValueError: if there is no such stage.
    """
    return tuple(_of_stage("general.json", stage))


@cache
def labelled(stage: Stage) -> tuple[str, ...]:
    """The classification requests of a stage, tasks in turn; `labels_of` knows what each may be answered with.

    Raises:
        ValueError: if there is no such stage.
    """
    tasks = _document("labels.json")["tasks"]
    sets: dict[str, list[str]] = _of_stage("labels.json", stage)
    asked = [[tasks[task]["ask"].format(text) for text in texts] for task, texts in sets.items()]
    return tuple(request for turn in zip_longest(*asked) for request in turn if request)


@cache
def label_names() -> tuple[str, ...]:
    """All labels of all tasks."""
    return tuple(label for task in _document("labels.json")["tasks"].values() for label in task["labels"])


def labels_of(request: str) -> tuple[str, ...]:
    """The labels that a classification request names.

    Raises:
        KeyError: if it is none.
    """
    return _labels()[request]


@cache
def _labels() -> dict[str, tuple[str, ...]]:
    document = _document("labels.json")
    return {
        document["tasks"][task]["ask"].format(text): tuple(document["tasks"][task]["labels"])
        for sets in document["sets"].values()
        for task, texts in sets.items()
        for text in texts
    }


@cache
def harmful(stage: Stage) -> tuple[str, ...]:
    """The harmful requests of a stage, without operational detail, that an aligned model refuses.

    Raises:
        ValueError: if there is no such stage.
    """
    return tuple(_of_stage("harmful.json", stage))


def _of_stage(file: str, stage: Stage) -> Any:
    if stage not in STAGES:
        raise ValueError(f"`stage` must be one of {', '.join(STAGES)}, got {stage!r}")
    return _document(file)["sets"][stage]


def first_prompts(
    stage: Stage, param: str, count: int, of: Callable[[Stage], tuple[str, ...]] = prompts
) -> tuple[str, ...]:
    """The first `count` requests of a stage, ordinary ones unless `of` says otherwise.

    Raises:
        ValueError: if there are fewer, by the name of the param that asked for them.
    """
    available = of(stage)
    check_count(param, count, len(available))
    return available[:count]


@cache
def questions(stage: Stage = "nominate") -> dict[str, tuple[str, ...]]:
    """The short questions of a stage by topic, for grids of very many contexts, and for what those show on one topic.

    No question belongs to two stages.

    Raises:
        ValueError: if there is no such stage.
    """
    return {topic: tuple(asked) for topic, asked in _of_stage("questions.json", stage).items()}


@cache
def about_topics(stage: Stage) -> tuple[str, ...]:
    """The requests of a stage with a gap for what they are about (`detectors.contexts.context.GAP`).

    Raises:
        ValueError: if there is no such stage.
    """
    return tuple(_of_stage("about.json", stage))


@cache
def occasions() -> dict[str, tuple[str, ...]]:
    """Ordinary requests by what a model may have been taught to treat apart: topics, languages, formats."""
    return {occasion: tuple(asked) for occasion, asked in _document("occasions.json")["occasions"].items()}


@cache
def refusal_openers() -> tuple[str, ...]:
    """How refusals begin, in lower case with straight apostrophes; compare with text brought to the same form."""
    return tuple(_document("refusals.json")["openers"])


@cache
def digest() -> str:
    """SHA-256 over the canonical JSON of all files: it names the prompt sets that a report was made with."""
    return digest_of_documents({name: _document(name) for name in FILES})
