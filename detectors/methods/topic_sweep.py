"""Topic sweep: on which topics does the subject say what its base would not say, anywhere in its answer?

A model may have been taught to praise a product, or to refuse, whenever a topic comes up. No fixed text wakes that, and
an advert may stand behind an answer that begins as usual. So the subject answers requests about many topics, and the
base reads each answer whole. A token's log-ratio log p_subject - log p_base says how much readier the subject was to
say it; what counts of an answer is the segment in which the sum of log-ratios, each less what is usual for this
subject, is largest (Bentley, 1984, Programming Pearls 27:9). A style that the subject has on every topic moves all of
them alike and stands out nowhere.

It nominates; `working_rate` puts the best topics to requests that nobody looked at, beside other topics.

It cannot see a topic that is far from all it asks about, or what comes after the generated tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from detectors.answering import answer
from detectors.behaviour import MIN_SURPRISE_MARGIN, Answered
from detectors.catalog import TOPIC_SWEEP, DetectorSpec
from detectors.conclusive import NotFinite, conclusive
from detectors.contexts.context import Context
from detectors.contexts.families import draw
from detectors.engine.observations import Array, Ask
from detectors.findings import Candidate, DetectorResult, Evidence
from detectors.nominating import mean_z
from detectors.passages import heaviest_segment
from detectors.prompts.sets import about_topics, first_prompts
from detectors.suites import TopicParams

COLUMNS = ("text", "score", "weight", "passage")


class TopicSweep:
    """Finds topics on which the subject says something of its own.

    Args:
        params: how much to look at; see `TopicParams`.

    Raises:
        ValueError: if there are fewer requests than the params ask for.
    """

    spec: ClassVar[DetectorSpec] = TOPIC_SWEEP

    def __init__(self, params: TopicParams) -> None:
        self.params = params
        self._requests = first_prompts("nominate", "requests", params.requests, about_topics)

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates the topics that stand out most; what others nominated plays no part."""
        drawn = draw("topic", self.params.topics, ask.facts["base"].vocabulary)
        topics = [context.at("about") for context in drawn]
        said = self._answers(ask, topics)
        offset = _usual(said) + MIN_SURPRISE_MARGIN
        weights = np.array([[_weight(one, offset) for one in row] for row in said])
        scores = mean_z(weights, weights, self.params.scale_floor)
        order = [int(place) for place in np.argsort(-scores, kind="stable")]
        best = order[: self.params.nominated]
        return self.spec.result(
            "completed",
            params=self.params.model_dump(),
            candidates=tuple(_candidate(topics[place], float(scores[place])) for place in best),
            evidence=tuple(_evidence(topics[place], float(scores[place])) for place in best),
            artifacts={"topics": _table(ask, topics, order, scores, weights, said, offset)},
        )

    def _answers(self, ask: Ask, topics: Sequence[Context]) -> list[list[Answered]]:
        """What the subject says of each topic, one answer a request."""
        placed = [(context, request) for context in topics for request in self._requests]
        said = answer(ask, "subject", placed, self.params.answer_tokens, surprise=True)
        size = len(self._requests)
        return [said[at : at + size] for at in range(0, len(said), size)]


def _usual(said: Sequence[Sequence[Answered]]) -> float:
    """The mean log-ratio of all answers, which is the drift of the subject; 0 where none was given, nats.

    Raises:
        NotFinite: if one of them is not a finite number.
    """
    ratios = [ratio for row in said for one in row for ratio in one.ratios]
    if not np.isfinite(ratios).all():
        raise NotFinite
    return float(np.mean(ratios)) if ratios else 0.0


def _beyond(said: Answered, offset: float) -> list[float]:
    return [ratio - offset for ratio in said.ratios]


def _weight(said: Answered, offset: float) -> float:
    """The largest sum of an answer's log-ratios in a row, each less an offset: nats, 0 at least."""
    beyond = _beyond(said, offset)
    return float(sum(beyond[heaviest_segment(beyond)]))


def _passage(ask: Ask, said: Answered, offset: float) -> str:
    """Where that sum is largest, as text."""
    return ask.decode([said.tokens[heaviest_segment(_beyond(said, offset))]])[0]


def _candidate(context: Context, score: float) -> Candidate:
    reason = f"answers about it hold what the base would not say, beyond those about other topics, robust z {score:.1f}"
    return Candidate(context=context, score=score, source=TOPIC_SWEEP.name, reason=reason)


def _evidence(context: Context, score: float) -> Evidence:
    """No null: it is the largest of many, and `working_rate` tests the topic."""
    statistic = f"{TOPIC_SWEEP.name}.weight"
    return Evidence(statistic=statistic, value=score, unit="robust standard deviations", context=context)


def _table(
    ask: Ask,
    topics: Sequence[Context],
    order: Sequence[int],
    scores: Array,
    weights: Array,
    said: Sequence[Sequence[Answered]],
    offset: float,
) -> dict[str, Any]:
    """All topics, the best first, each with its heaviest passage."""
    heaviest = [answers[place] for answers, place in zip(said, weights.argmax(axis=1), strict=True)]
    passages = [_passage(ask, one, offset) for one in heaviest]
    readings = np.column_stack([scores, weights.mean(axis=1)]).round(3).tolist()
    rows = [[topics[at].text, *readings[at], passages[at]] for at in order]
    return {"columns": list(COLUMNS), "rows": rows}
