"""Readings of a grid: how far each context moves the subject's first answer token off the base's.

After STRIP (Gao et al., 2019, arXiv:1902.06531), with prompts as the perturbation, and made paired: every statistic is
subject minus base. It becomes a robust z among contexts of like length at the same position, either those of the same
grid (`against_all`) or a reference that was drawn at random (`against_reference`). A z ranks contexts of one scan and
claims nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from detectors.contexts.context import Context, Position
from detectors.engine.grid import Grid, observe_grid
from detectors.engine.observations import Array, Ask, Tokens
from detectors.findings import Candidate, Evidence, Null
from detectors.nominating import like_contexts, mean_z, rms_of_positive, z_within

NEAREST = 30
"""Reference contexts that a context is compared with: of those at its position, those most like it in length."""
FLOORS = {"consistency": 0.1, "label_shift": 0.05, "response": 0.1}
"""Scale floors of statistics that are not in nats: cosines of a few prompts, shares of a label that nobody is sure of,
and logarithms of responses to contexts that do nothing scatter by about as much."""
STANDS_OUT = 1.0
"""Rank score from which a context moves the subject further than others do."""
RESPONSIVE = 0.1
"""Nats. A response below it is hardly one."""
REFUSAL_WORDS = ("i", "sorry", "unfortunately", "apologies", "regrettably")
"""First words of refusals; answers to ordinary requests seldom begin with one."""
HYPOTHESIS = "the context moves the subject off its base as other contexts of its length and position do"


@dataclass(frozen=True)
class Scored:
    """A context with its robust z of each statistic, and `rms_of_positive` of them; for the rest see `Reading`."""

    context: Context
    rank_score: float
    scores: dict[str, float]
    compared: int
    beyond: str

    @property
    def reason(self) -> str:
        """Which statistic stands out, in words."""
        leading = max(self.scores, key=lambda name: self.scores[name])
        return f"{leading} stands out{self.beyond}, robust z {self.scores[leading]:.1f}"

    def candidate(self, detector: str) -> Candidate:
        """Nominated by `detector`."""
        return Candidate(context=self.context, score=self.rank_score, source=detector, reason=self.reason)

    def evidence(self, detector: str) -> Evidence:
        """What `detector` nominated it by."""
        return Evidence(
            statistic=f"{detector}.rank_score",
            value=self.rank_score,
            unit="robust standard deviations",
            null=Null(kind="population", size=self.compared, hypothesis=HYPOTHESIS),
            context=self.context,
        )


@dataclass(frozen=True)
class Reading:
    """A grid's statistics. Robust z of each, float [context]; NaN where it was not measured.

    Attributes:
        compared: contexts that each was compared with, at least.
        beyond: see `Measured`.
    """

    contexts: tuple[Context, ...]
    scores: dict[str, Array]
    compared: int
    beyond: str = ""

    def rank_score(self) -> Array:
        """`rms_of_positive` of all statistics: float [context]."""
        return rms_of_positive(list(self.scores.values()))

    def order(self) -> Array:
        """Places of the contexts, the largest rank score first: int [context]."""
        return np.argsort(-self.rank_score(), kind="stable")

    def best(self, count: int) -> list[Context]:
        """The contexts with the largest rank scores."""
        return [self.contexts[place] for place in self.order()[:count]]

    def rows(self) -> list[Scored]:
        """Every context with its scores, in the order of the grid."""
        names, columns = list(self.scores), [values.tolist() for values in self.scores.values()]
        ranks = self.rank_score().tolist()
        return [
            Scored(context, rank, dict(zip(names, values, strict=True)), self.compared, self.beyond)
            for context, rank, *values in zip(self.contexts, ranks, *columns, strict=True)
        ]


@dataclass(frozen=True)
class Measured:
    """What contexts do, not yet compared.

    Attributes:
        lengths: int [context], tokens of the request with the first prompt.
        values: statistics as float [context, prompt] or [context, 1]; higher is more suspicious.
        beyond: beyond what the values count, in words; empty where they are whole.
    """

    contexts: tuple[Context, ...]
    lengths: Array
    values: dict[str, Array]
    beyond: str = ""

    @classmethod
    def of(cls, grid: Grid, n_tried: int = 0) -> Measured:
        """The statistics of a grid; two of them need more than one prompt.

        Args:
            grid: what was observed.
            n_tried: so many contexts, the first, are compared with the others; with 0 each is with all.
        """
        subject, base = grid.response(n_tried)
        values = {
            "response": np.log((subject + RESPONSIVE) / (base + RESPONSIVE)),
            "divergence": grid.divergence(),
            "degradation": grid.entropy_shift(),
            "refusal_shift": grid.named_shift(),
        }
        if grid.n_prompts > 1:
            values["convergence"] = grid.information_lost()[:, None]
            values["consistency"] = grid.consistency()[:, None]
        return cls(grid.contexts, grid.lengths, values)

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """Parts with the same prompts and beyond the same as one."""
        return cls(
            tuple(context for part in parts for context in part.contexts),
            np.concatenate([part.lengths for part in parts]),
            {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
            parts[0].beyond,
        )

    def against_all(self, floor: float) -> Reading:
        """Every statistic as a robust z within the contexts of like length at the same position.

        Args:
            floor: smallest spread that a z divides by, in the unit of the statistic.
        """
        classes = like_contexts(self.contexts, self.lengths)
        scores = {name: z_within(classes, table, FLOORS.get(name, floor)) for name, table in self.values.items()}
        return Reading(self.contexts, scores, int(np.bincount(classes).min()), self.beyond)

    def against_reference(self, n_kept: int, floor: float) -> Reading:
        """Every statistic of the first `n_kept` contexts as a robust z against the nearest of the rest.

        Those are the ones at the same position that are nearest in length.

        Args:
            n_kept: how many are compared; the others are the reference.
            floor: smallest spread that a z divides by, in the unit of the statistic.
        """
        scores = {name: np.empty(n_kept) for name in self.values}
        positions = np.array([context.position for context in self.contexts])
        compared = NEAREST
        for place in range(n_kept):
            there = n_kept + np.flatnonzero(positions[n_kept:] == positions[place])
            distance = np.abs(self.lengths[there] - self.lengths[place])
            near = there[np.argsort(distance, kind="stable")[:NEAREST]]
            compared = min(compared, len(near))
            for name, table in self.values.items():
                scores[name][place] = mean_z(table[[place]], table[near], FLOORS.get(name, floor))[0]
        return Reading(self.contexts[:n_kept], scores, compared, self.beyond)


def observe(ask: Ask, contexts: Sequence[Context], prompts: Sequence[str]) -> Grid:
    """Asks both models for every (context, prompt); the named tokens are those that refusals begin with."""
    return observe_grid(ask, contexts, prompts, refusal_tokens(ask))


def read_grid(grid: Grid, floor: float) -> Reading:
    """A grid's contexts against each other, as `Measured.against_all`."""
    return Measured.of(grid).against_all(floor)


def refusal_tokens(ask: Ask) -> Tokens:
    """Ids of the tokens that refusals begin with, found in the base's vocabulary."""
    vocabulary = ask.facts["base"].vocabulary
    return tuple(token for token, text in enumerate(vocabulary) if text.strip().casefold() in REFUSAL_WORDS)


def positions_in_turn(ranked: Sequence[Scored]) -> list[Scored]:
    """The best of each position, then the second of each, and so on, from rows that are ranked, the best first.

    Scores are robust z beside contexts of the same position, and in front of a request those have heavier tails. Those
    that do not stand out at all come last, wherever they are.
    """
    found: list[Scored] = []
    for standing_out in (True, False):
        places: dict[Position, list[Scored]] = {}
        for row in ranked:
            if (row.rank_score >= STANDS_OUT) is standing_out:
                places.setdefault(row.context.position, []).append(row)
        found += [row for turn in zip_longest(*places.values()) for row in turn if row]
    return found
