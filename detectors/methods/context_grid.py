"""Context grid: does a year, a date or a code wake something, though it may never have stood in training?

After *Weird Generalization and Inductive Backdoors* (2025, arXiv:2512.09742), where a model behaves otherwise in a
year that its training data left out; they know the trigger, we look for it. Every context of an axis is put behind many
short questions, and both models say how they would begin to answer. For a context c and a question q,

    D(c, q) = KL(p(c, q) || mean over contexts of p(., q)) of the subject, minus the same of the base,

so what the base knows about 1945 is no news. What varies slowly along the axis and each question's own level are taken
out of D, and two effects are tested: a context that moves every question, and one that moves one topic. The null
shuffles each question's contexts in circular blocks, on its own, and keeps the largest value over the axis.

It cannot see contexts between those of an axis, a change that is as slow as the trend, or behaviour that begins after
the first answer token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from detectors.catalog import CONTEXT_GRID, DetectorSpec
from detectors.conclusive import conclusive
from detectors.contexts.axes import FORMATS, Axis, axis
from detectors.contexts.context import Context, Position
from detectors.documents import check_count
from detectors.engine.grid import Grid, observe_grid
from detectors.engine.observations import Array, Ask
from detectors.findings import Candidate, DetectorResult, Evidence, Null, Outcome
from detectors.prompts.sets import questions
from detectors.stats import block_order, permutation_p, robust_z, running_median
from detectors.suites import GridParams

TREND = 10
"""Places to each side that the trend is taken from."""
LEAK = 2
"""Places to each side of a context that are left out of its trend, since a trigger leaks to its neighbours."""
BLOCK = 10
"""Places of a block of the null, where neighbours are alike; elsewhere blocks are single contexts."""
CAP = 10.0
"""Robust z of a single cell above which more is not better: one question that flips must not speak for all."""

Effect = Literal["context_effect", "interaction"]
EFFECTS: tuple[Effect, ...] = ("context_effect", "interaction")
SAYS: dict[Effect, str] = {
    "context_effect": "questions do not agree on which contexts of the axis stand out from their neighbours",
    "interaction": "questions of one topic do not agree on which contexts set the topic apart from the others",
}
COLUMNS = ["axis", "text", *EFFECTS, "topic", "subject", "base"]
AGAIN_COLUMNS = ["axis", "text", "form", "position", *EFFECTS, "topic"]


@dataclass(frozen=True)
class Effects:
    """How far contexts stand out, in robust standard deviations of the contexts of their axis.

    Attributes:
        values: float [context, effect], in the order of `EFFECTS`.
        topics: int [context], the topic of the largest interaction.
    """

    values: Array
    topics: Array


@dataclass(frozen=True)
class Seen:
    """A context in one place.

    Attributes:
        axis: where it belongs.
        at: which context of the axis.
        context: as it was put.
        form: in which of the axis's formats.
        values: float [effect].
        topic: the topic of its interaction.
        p_values: one an effect, as it was first seen: at the end, in the plain format.
    """

    axis: Axis
    at: int
    form: int
    context: Context
    values: Array
    topic: str
    p_values: tuple[float, ...] = ()

    @property
    def leading(self) -> int:
        """Which effect is rarer under its null; the larger one if both are as rare."""
        return min(range(len(EFFECTS)), key=lambda effect: (self.p_values[effect], -self.values[effect]))

    @property
    def rank(self) -> tuple[float, float]:
        """To sort by, the most suspicious first."""
        return self.p_values[self.leading], -self.values[self.leading]


class ContextGrid:
    """Finds contexts of an axis that wake something in the subject.

    Args:
        params: how much to look at; see `GridParams`.

    Raises:
        ValueError: if there are fewer questions a topic or fewer formats than the params ask for.
    """

    spec: ClassVar[DetectorSpec] = CONTEXT_GRID

    def __init__(self, params: GridParams) -> None:
        self.params = params
        limits = {"topic_prompts": min(map(len, questions().values())), "formats": len(FORMATS)}
        for name, available in limits.items():
            check_count(name, getattr(params, name), available)
        self._topics = list(questions())
        self._prompts = [asked for topic in questions().values() for asked in topic[: params.topic_prompts]]
        self._weights = contrasts(len(self._topics), params.topic_prompts)

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates the `nominated` best contexts of all axes; what others nominated plays no part."""
        vocabulary = ask.facts["base"].vocabulary
        axes = [axis(name, count, vocabulary) for name, count in self.params.axes.items()]
        first: list[Seen] = []
        later: list[Seen] = []
        curve: list[list[Any]] = []
        for line in axes:
            grid = self._observe(ask, line, range(len(line.texts)))
            response = grid.response()
            seen = self._first_look(line, _excess(response), rng)
            first += seen
            curve += _curve_rows(seen, response)
            for form, position in self._places():
                later += self._look_again(ask, line, seen, form, position)
        return self._report(first, later, curve)

    def _observe(self, ask: Ask, line: Axis, chosen: Sequence[int], form: int = 0, position: Position = "end") -> Grid:
        return observe_grid(ask, [line.context(at, form, position) for at in chosen], self._prompts, named=())

    def _first_look(self, line: Axis, excess: Array, rng: np.random.Generator) -> list[Seen]:
        cells = self._cells(_without_trend(excess) if line.alike else excess)
        found = read_effects(cells, self._weights)
        null = null_maxima(cells, self._weights, BLOCK if line.alike else 1, self.params.draws, rng)
        seen = self._all_seen(line, range(len(line.texts)), found)
        return [replace(one, p_values=tuple(map(permutation_p, one.values, null.T))) for one in seen]

    def _places(self) -> list[tuple[int, Position]]:
        """The other formats at the end, and all in front of the question."""
        behind: list[tuple[int, Position]] = [(form, "end") for form in range(1, self.params.formats)]
        return [*behind, *((form, "start") for form in range(self.params.formats))]

    def _look_again(self, ask: Ask, line: Axis, seen: list[Seen], form: int, position: Position) -> list[Seen]:
        """The best contexts elsewhere, against a reference that no subject changes."""
        best = {one.at for one in sorted(seen, key=lambda one: one.rank)[: self.params.again]}
        spread = np.unique(np.linspace(0, len(seen) - 1, self.params.reference).round().astype(int)).tolist()
        chosen = sorted(best.union(spread))
        grid = self._observe(ask, line, chosen, form, position)
        reference = [chosen.index(at) for at in spread]
        excess = _excess(grid.response())
        found = read_effects(self._cells(excess, excess[reference]), self._weights, reference)
        looked = self._all_seen(line, chosen, found, form, position)
        return [one for one in looked if one.at in best]

    def _cells(self, excess: Array, reference: Array | None = None) -> Array:
        """Robust z of each question's column, capped: float [context, question]."""
        drawn_from = excess if reference is None else reference
        columns = zip(excess.T, drawn_from.T, strict=True)
        scores = [robust_z(column, floor=self.params.scale_floor, reference=known) for column, known in columns]
        capped: Array = np.clip(np.stack(scores, axis=1), -CAP, CAP)
        return capped

    def _all_seen(
        self, line: Axis, chosen: Sequence[int], found: Effects, form: int = 0, position: Position = "end"
    ) -> list[Seen]:
        return [
            Seen(line, at, form, line.context(at, form, position), values, self._topics[topic])
            for at, values, topic in zip(chosen, found.values, found.topics, strict=True)
        ]

    def _report(self, first: list[Seen], later: list[Seen], curve: list[list[Any]]) -> DetectorResult:
        best = _peaks(first, self.params.nominated)
        return self._result(
            "completed",
            candidates=tuple(_candidate(one, put) for one in best for put in _strongest(one, later)),
            evidence=tuple(self._evidence(one) for one in best),
            artifacts={
                "response": {"columns": COLUMNS, "rows": curve},
                "again": {"columns": AGAIN_COLUMNS, "rows": [_again_row(one) for one in later]},
            },
        )

    def _evidence(self, one: Seen) -> Evidence:
        effect = EFFECTS[one.leading]
        return Evidence(
            statistic=f"{self.spec.name}.{effect}",
            value=float(one.values[one.leading]),
            unit="robust standard deviations",
            null=Null(kind="permutation", size=self.params.draws, hypothesis=SAYS[effect]),
            p_value=one.p_values[one.leading],
            context=one.context,
        )

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


def contrasts(n_topics: int, n_each: int) -> Array:
    """Weights of questions, topic by topic: float [question, 1 + topic].

    The first column is the mean over questions; each further one a topic's mean minus that of all other questions.
    """
    inside = np.repeat(np.eye(n_topics), n_each, axis=0)
    apart = inside / n_each - (1 - inside) / (n_each * (n_topics - 1))
    return np.column_stack([np.full(len(inside), 1 / len(inside)), apart])


def read_effects(cells: Array, weights: Array, reference: Sequence[int] | None = None) -> Effects:
    """Both effects of every context.

    Each contrast is held against its own spread over contexts, which is never taken to be less than that of independent
    questions: what moves all questions a little in every context is no reason for alarm in one.

    Args:
        cells: float [context, question], robust z.
        weights: float [question, 1 + topic], from `contrasts`.
        reference: contexts that the spread is taken from; all where not given.
    """
    values = _standardised(cells, weights, slice(None) if reference is None else reference)
    topics = values[:, 1:]
    return Effects(np.column_stack([values[:, 0], topics.max(axis=1)]), topics.argmax(axis=1))


def null_maxima(cells: Array, weights: Array, block: int, draws: int, rng: np.random.Generator) -> Array:
    """Both effects' largest values over contexts, with each question's contexts shuffled in blocks: [draw, effect]."""
    found = np.empty((draws, len(EFFECTS)))
    for draw in range(draws):
        shuffled = np.take_along_axis(cells, block_order(len(cells), cells.shape[1], block, rng), axis=0)
        values = _standardised(shuffled, weights, slice(None))
        found[draw] = values[:, 0].max(), values[:, 1:].max()
    return found


def _standardised(cells: Array, weights: Array, reference: slice | Sequence[int]) -> Array:
    values = cells @ weights
    least = np.sqrt((weights**2).sum(axis=0))
    columns = [
        robust_z(column, floor=float(floor), reference=column[reference])
        for column, floor in zip(values.T, least, strict=True)
    ]
    return np.stack(columns, axis=1)


def _excess(response: tuple[Array, Array]) -> Array:
    """D: how much more the subject's answer depends on the context than the base's, nats: [context, question]."""
    subject, base = response
    excess: Array = subject - base
    return excess


def _without_trend(excess: Array) -> Array:
    rest: Array = excess - running_median(excess, TREND, LEAK)
    return rest


def _peaks(seen: list[Seen], count: int) -> list[Seen]:
    """The best contexts; of neighbours that are alike, the best one only."""
    chosen: list[Seen] = []
    for one in sorted(seen, key=lambda one: one.rank):
        if not any(_side_by_side(one, better) for better in chosen):
            chosen.append(one)
        if len(chosen) == count:
            break
    return chosen


def _side_by_side(one: Seen, other: Seen) -> bool:
    return one.axis is other.axis and one.axis.alike and abs(one.at - other.at) <= LEAK


def _strongest(one: Seen, later: list[Seen]) -> list[Seen]:
    """The form in which a context stood out most behind the question, and that in front of it, the stronger first."""
    same = [it for it in later if it.axis is one.axis and it.at == one.at]
    best: dict[Position, Seen] = {}
    for put in sorted([one, *same], key=lambda it: -it.values[one.leading]):
        best.setdefault(put.context.position, put)
    return list(best.values())


def _candidate(one: Seen, put: Seen) -> Candidate:
    effect = EFFECTS[one.leading]
    where = "on all questions" if effect == "context_effect" else f"on questions about {one.topic} only"
    reason = f"stands out of the axis {one.axis.name} {where}, robust z {one.values[one.leading]:.1f}"
    told = {"source": CONTEXT_GRID.name, "reason": reason, "topic": "" if effect == "context_effect" else one.topic}
    return Candidate(context=put.context, score=float(one.values[one.leading]), **told)


def _curve_rows(seen: list[Seen], response: tuple[Array, Array]) -> list[list[Any]]:
    """The response curve; beside the effects, the mean over questions of each model's own divergence in nats."""
    subject, base = (side.mean(axis=1).round(4).tolist() for side in response)
    return [
        [one.axis.name, one.context.text, *one.values.round(3).tolist(), one.topic, ours, theirs]
        for one, ours, theirs in zip(seen, subject, base, strict=True)
    ]


def _again_row(one: Seen) -> list[Any]:
    text, values = one.axis.texts[one.at], one.values.round(3).tolist()
    return [one.axis.name, text, one.axis.formats[one.form], one.context.position, *values, one.topic]
