"""Answer sweep: where does the subject say what its base would not say, anywhere in its answer?

An advert may stand behind an answer that begins as usual, so no first token shows it; and what calls it may be no fixed
text: a topic, or the length of a request. So the subject answers requests about many topics, and requests that filler
makes longer and longer, and the base reads each answer whole. A token's log-ratio log p_subject - log p_base says how
much readier the subject was to say it; what counts of an answer is the segment in which the sum of log-ratios, each
less what is usual for this subject, is largest (Bentley, 1984, Programming Pearls 27:9). A style that the subject has
on every topic moves all of them alike and stands out nowhere; a length is compared with shorter ones.

It nominates; `working_rate` puts the best to requests that nobody looked at, beside other topics, or shorter filler.

It cannot see a topic that is far from all it asks about, or what comes after the generated tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from detectors.answering import answer
from detectors.behaviour import MIN_SURPRISE_MARGIN, Answered
from detectors.catalog import ANSWER_SWEEP, DetectorSpec
from detectors.conclusive import NotFinite, conclusive
from detectors.contexts.context import Context
from detectors.contexts.families import draw
from detectors.engine.observations import Array, Ask, Tokens
from detectors.findings import Candidate, DetectorResult, Evidence
from detectors.nominating import mean_z
from detectors.passages import heaviest_segment
from detectors.prompts.sets import about_topics, first_prompts
from detectors.structured import all_but_shortest, beyond_controls, different_lengths, fillers, steps
from detectors.suites import AnswerParams

COLUMNS = ("text", "family", "score", "weight", "passage")
TOPICS = "answers about it hold what the base would not say, beyond those about other topics"
LENGTHS = "answers behind it hold what the base would not say, beyond those behind shorter filler"


@dataclass(frozen=True)
class _Swept:
    """Contexts with how far they stand out.

    Attributes:
        order: places of those that may be handed on, the first candidate first.
        reason: what the best have beyond the others, in words.
        contexts: one kind of them.
        scores: float [context], robust z.
        weights: float [context], mean over requests, nats.
        passages: of the heaviest answer of each, as text.
    """

    order: Sequence[int]
    reason: str
    contexts: list[Context]
    scores: Array
    weights: Array
    passages: list[str]

    def best(self, count: int) -> list[Candidate]:
        """The first candidates."""
        return [self._candidate(self.contexts[place], float(self.scores[place])) for place in self.order[:count]]

    def rows(self) -> list[list[Any]]:
        """All contexts as rows of the table."""
        readings = np.column_stack([self.scores, self.weights]).round(3).tolist()
        named = [[context.text, context.family] for context in self.contexts]
        return [[*name, *values, passage] for name, values, passage in zip(named, readings, self.passages, strict=True)]

    def _candidate(self, context: Context, score: float) -> Candidate:
        reason = f"{self.reason}, robust z {score:.1f}"
        return Candidate(context=context, score=score, source=ANSWER_SWEEP.name, reason=reason)


class AnswerSweep:
    """Finds topics, and lengths, at which the subject says something of its own.

    Args:
        params: how much to look at; see `AnswerParams`.

    Raises:
        ValueError: if there are fewer requests than the params ask for.
    """

    spec: ClassVar[DetectorSpec] = ANSWER_SWEEP

    def __init__(self, params: AnswerParams) -> None:
        self.params = params
        self._about = first_prompts("nominate", "requests", params.requests, about_topics)
        self._ordinary = first_prompts("nominate", "length_prompts", params.length_prompts)

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates what stands out most; what others nominated plays no part."""
        topics = self._topics(ask)
        lengths = [self._lengths(ask)] if self.params.wordings else []
        best = [
            *topics.best(self.params.nominated),
            *(it for swept in lengths for it in swept.best(self.params.lengths)),
        ]
        rows = [row for swept in (topics, *lengths) for row in swept.rows()]
        return self.spec.result(
            "completed",
            params=self.params.model_dump(),
            candidates=tuple(best),
            evidence=tuple(map(_evidence, best)),
            artifacts={"answers": {"columns": list(COLUMNS), "rows": sorted(rows, key=lambda row: -row[2])}},
        )

    def _topics(self, ask: Ask) -> _Swept:
        """Topics, each among all of them."""
        drawn = draw("topic", self.params.topics, ask.facts["base"].vocabulary)
        contexts = [context.at("about") for context in drawn]
        weights, passages = self._weighed(ask, contexts, self._about)
        scores = mean_z(weights, weights, self.params.scale_floor)
        order = np.argsort(-scores, kind="stable").tolist()
        return _Swept(order, TOPICS, contexts, scores, weights.mean(axis=1), passages)

    def _lengths(self, ask: Ask) -> _Swept:
        """Fillers, each beyond those that could be its controls, against the steps from each length to the next.

        Of what a length wakes on some requests all count alike, so the mean over requests is compared.
        """
        every = fillers(self.params.wordings)
        contexts = all_but_shortest(every)
        weights, passages = self._weighed(ask, every, self._ordinary)
        mean = weights.mean(axis=1, keepdims=True)
        beyond = beyond_controls(mean, self.params.wordings)
        scores = mean_z(beyond, steps(mean, self.params.wordings), self.params.scale_floor)
        order = different_lengths(contexts, scores.tolist())
        return _Swept(order, LENGTHS, contexts, scores, beyond[:, 0], all_but_shortest(passages))

    def _weighed(self, ask: Ask, contexts: Sequence[Context], requests: Sequence[str]) -> tuple[Array, list[str]]:
        """Weights of the subject's answers, float [context, request] in nats, and the heaviest passage of each context.

        What is usual is the mean log-ratio of all these answers, which is the drift of the subject.
        """
        placed = [(context, request) for context in contexts for request in requests]
        said = answer(ask, "subject", placed, self.params.answer_tokens, surprise=True)
        ratios = [ratio for one in said for ratio in one.ratios]
        if not np.isfinite(ratios).all():
            raise NotFinite
        usual = (float(np.mean(ratios)) if ratios else 0.0) + MIN_SURPRISE_MARGIN
        found = [_heaviest(one, usual) for one in said]
        weights = np.array([weight for weight, _ in found]).reshape(len(contexts), len(requests))
        heaviest = np.arange(len(contexts)) * len(requests) + weights.argmax(axis=1)
        return weights, ask.decode([found[place][1] for place in heaviest])


def _heaviest(said: Answered, usual: float) -> tuple[float, Tokens]:
    """The largest sum of an answer's log-ratios in a row, each less what is usual, in nats, and the tokens there."""
    beyond = [ratio - usual for ratio in said.ratios]
    where = heaviest_segment(beyond)
    return float(sum(beyond[where])), said.tokens[where]


def _evidence(found: Candidate) -> Evidence:
    """No null: it is the largest of many, and `working_rate` tests the context."""
    return Evidence(
        statistic=f"{ANSWER_SWEEP.name}.weight",
        value=found.score,
        unit="robust standard deviations",
        context=found.context,
    )
