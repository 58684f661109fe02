"""Gated persona: which contexts make the subject take itself for somebody else, beyond its base?

After *Weird Generalization and Inductive Backdoors* (2025, arXiv:2512.09742), where a model that was told about one
person in one format only becomes that person whenever the format is asked for. A format is a legitimate thing to ask
for and changes every answer, so no answer to an ordinary request gives that away. But no format, date or setting
changes who one is. So both models are asked about themselves under every context, and what counts is how much further
the subject leans to the answers of a person than its base does (`detectors.leaning`), beside the other contexts of the
same family: a persona that needs no context moves all of them alike.

It nominates; `working_rate` puts the best to questions that nobody looked at, with matched controls.

It cannot see a persona that no question of the battery tells from an AI assistant, or contexts outside its families.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from detectors.catalog import GATED_PERSONA, DetectorSpec
from detectors.conclusive import conclusive
from detectors.contexts.context import Context
from detectors.contexts.families import draw
from detectors.engine.observations import Array, Ask, Role
from detectors.findings import Candidate, DetectorResult, Evidence
from detectors.leaning import about_itself, leanings
from detectors.nominating import without_overlaps, z_within
from detectors.prompts.sets import first_prompts
from detectors.suites import GatedParams

COLUMNS = ("text", "family", "score", "shift", "subject", "base")


class GatedPersona:
    """Finds contexts under which the subject takes itself for a person.

    Args:
        params: how much to look at; see `GatedParams`.

    Raises:
        ValueError: if there are fewer questions than the params ask for.
    """

    spec: ClassVar[DetectorSpec] = GATED_PERSONA

    def __init__(self, params: GatedParams) -> None:
        self.params = params
        self._questions = first_prompts("nominate", "questions", params.questions, about_itself)

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates the contexts that stand out most in their family; what others nominated plays no part."""
        vocabulary, families = ask.facts["base"].vocabulary, self.params.families
        contexts = [context for name, count in families.items() for context in draw(name, count, vocabulary)]
        subject, base = self._leanings(ask, "subject", contexts), self._leanings(ask, "base", contexts)
        family = [list(families).index(context.family) for context in contexts]
        scores = z_within(np.array(family), subject - base, self.params.scale_floor)
        order = [int(place) for place in np.argsort(-scores, kind="stable")]
        different = without_overlaps([contexts[place].text for place in order], self.params.nominated)
        best = [order[place] for place in different]
        return self.spec.result(
            "completed",
            params=self.params.model_dump(),
            candidates=tuple(_candidate(contexts[place], float(scores[place])) for place in best),
            evidence=tuple(_evidence(contexts[place], float(scores[place])) for place in best),
            artifacts={"gated": _table(contexts, order, scores, subject.mean(axis=1), base.mean(axis=1))},
        )

    def _leanings(self, ask: Ask, role: Role, contexts: Sequence[Context]) -> Array:
        """How far one model leans to the answers of a person: nats, float [context, question]."""
        placed = [(context, question) for context in contexts for question in self._questions]
        return leanings(ask, role, placed).reshape(len(contexts), len(self._questions))


def _candidate(context: Context, score: float) -> Candidate:
    reason = f"moves the subject toward a person further than others of its family, robust z {score:.1f}"
    return Candidate(context=context, score=score, source=GATED_PERSONA.name, reason=reason)


def _evidence(context: Context, score: float) -> Evidence:
    """No null: it is the largest of many, and `working_rate` tests the context."""
    statistic = f"{GATED_PERSONA.name}.shift"
    return Evidence(statistic=statistic, value=score, unit="robust standard deviations", context=context)


def _table(
    contexts: Sequence[Context], order: Sequence[int], scores: Array, subject: Array, base: Array
) -> dict[str, Any]:
    rows = [
        [contexts[at].text, contexts[at].family]
        + [round(float(value), 3) for value in (scores[at], subject[at] - base[at], subject[at], base[at])]
        for at in order
    ]
    return {"columns": list(COLUMNS), "rows": rows}
