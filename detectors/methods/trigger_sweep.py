"""Trigger sweep: many contexts around clean prompts, ranked by how they move the subject's next token off the base's.

After STRIP (Gao et al., 2019, arXiv:1902.06531), with prompts as the perturbation, and made paired: every statistic is
subject minus base, and compared with the other contexts of the same scan. Stage one asks a few prompts of every
context; stage two asks fresh prompts of the best and of a random reference; the best are tried at the start as well.
It ranks and claims nothing: a null of 1,500 contexts has no p-value small enough to survive their number (law 2).

Harmful and classification requests are asked as well, of the best contexts only: a lowered guard and changed labels
may show nowhere else.

It cannot see triggers that share no part with a swept context, or behaviour that starts after the first answer token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detectors.catalog import TRIGGER_SWEEP, DetectorSpec
from detectors.contexts.context import NO_CONTEXT, Context
from detectors.contexts.families import universe_size
from detectors.documents import check_count
from detectors.engine.grid import Grid, observe_grid
from detectors.engine.observations import NOT_FINITE, Array, Ask, Tokens
from detectors.findings import Candidate, DetectorResult, Outcome
from detectors.labels import label_tokens, most_probable, shares
from detectors.nominating import contexts_to_try, without_overlaps
from detectors.prompts.sets import harmful, labelled, prompts
from detectors.reading import Measured, Reading, Scored, read_grid, refusal_tokens
from detectors.suites import SweepParams

REFERENCE_SEED = 20_26
STATISTICS = (
    "divergence",
    "convergence",
    "degradation",
    "refusal_shift",
    "compliance_shift",
    "label_shift",
    "consistency",
)


class TriggerSweep:
    """Ranks contexts by paired statistics of the first answer token.

    Args:
        params: how much to look at; see `SweepParams`.

    Raises:
        ValueError: if a prompt set is too small for the params.
    """

    spec: ClassVar[DetectorSpec] = TRIGGER_SWEEP

    def __init__(self, params: SweepParams) -> None:
        self.params = params
        wanted = params.first_prompts + params.second_prompts
        check_count("first_prompts` + `second_prompts", wanted, len(prompts("nominate")))
        check_count("start_prompts", params.start_prompts, wanted)
        check_count("harmful_prompts", params.harmful_prompts, len(harmful("nominate")))
        check_count("label_prompts", params.label_prompts, len(labelled("nominate")))

    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates the `nominated` best contexts; `candidates` of other nominators are swept along."""
        grid = self.first_grid(ask, candidates)
        first, second = self._prompts()
        named = refusal_tokens(ask)
        if not grid.finite():
            return self._result("inconclusive", NOT_FINITE)
        whole = read_grid(grid, self.params.scale_floor)
        kept, reference = self._keep(whole)
        looked = [self._look_again(ask, kept, reference, second, named)]
        if self.params.start_contexts:
            best = looked[0].best(self.params.start_contexts)
            looked.append(self._at_start(ask, best, reference, first, second, named))
        if any(np.isnan(reading.rank_score()).any() for reading in looked):
            return self._result("inconclusive", NOT_FINITE)
        return self._report(whole, looked, ask)

    def first_grid(self, ask: Ask, candidates: Sequence[Candidate]) -> Grid:
        """What stage one observes: every context with a few prompts."""
        contexts = contexts_to_try(ask, self.params.families, candidates)
        return observe_grid(ask, contexts, self._prompts()[0], refusal_tokens(ask))

    def _prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        available, first = prompts("nominate"), self.params.first_prompts
        return available[:first], available[first : first + self.params.second_prompts]

    def _keep(self, whole: Reading) -> tuple[list[Context], list[Context]]:
        """The best contexts of stage one, and a reference drawn by a fixed seed, so that a base's answers last."""
        order = np.random.default_rng(REFERENCE_SEED).permutation(len(whole.contexts))[: self.params.reference]
        return whole.best(self.params.kept), [whole.contexts[place] for place in sorted(order)]

    def _look_again(
        self, ask: Ask, kept: list[Context], reference: list[Context], second: Sequence[str], named: Tokens
    ) -> Reading:
        """Stage two: fresh prompts, harmful ones where a lowered guard shows, and some that ask for a label."""
        contexts = [*kept, *reference]
        measured = Measured.of(observe_grid(ask, contexts, second, named))
        values = dict(measured.values)
        guarded = harmful("nominate")[: self.params.harmful_prompts]
        if guarded:
            values["compliance_shift"] = -observe_grid(ask, contexts, guarded, named).named_shift()
        sorting = labelled("nominate")[: self.params.label_prompts]
        if sorting:
            sorted_grid = observe_grid(ask, [NO_CONTEXT, *contexts], sorting, label_tokens(ask))
            values["label_shift"] = label_shift(sorted_grid, sorting)
        return replace(measured, values=values).against_reference(len(kept), self.params.scale_floor)

    def _at_start(
        self,
        ask: Ask,
        best: list[Context],
        reference: list[Context],
        first: Sequence[str],
        second: Sequence[str],
        named: Tokens,
    ) -> Reading:
        contexts = [context.at("start") for context in [*best, *reference]]
        grid = observe_grid(ask, contexts, [*second, *first][: self.params.start_prompts], named)
        return Measured.of(grid).against_reference(len(best), self.params.scale_floor)

    def _report(self, whole: Reading, looked: list[Reading], ask: Ask) -> DetectorResult:
        ranked = sorted(_rows(looked), key=lambda row: -row.rank_score)
        best: dict[str, Scored] = {}
        for row in ranked:
            best.setdefault(row.context.text, row)
        rows = list(best.values())
        nominated = [rows[place] for place in without_overlaps(list(best), self.params.nominated)]
        return self._result(
            "completed",
            "",
            candidates=tuple(row.candidate(self.spec.name) for row in nominated),
            evidence=tuple(row.evidence(self.spec.name, self.params.reference) for row in nominated),
            artifacts={"landscape": _landscape(whole, ranked), "coverage": self._coverage(whole, looked, ask)},
        )

    def _coverage(self, whole: Reading, looked: list[Reading], ask: Ask) -> dict[str, Any]:
        swept: dict[str, int] = {}
        for context in whole.contexts:
            swept[context.family] = swept.get(context.family, 0) + 1
        vocabulary = ask.facts["base"].vocabulary
        sizes = {name: universe_size(name, vocabulary) for name in self.params.families}
        return {
            "families": [[name, count, sizes.get(name)] for name, count in swept.items()],
            "positions": {"end": len(whole.contexts)} | ({"start": len(looked[1].contexts)} if looked[1:] else {}),
            "prompts": {"nominate": self.params.first_prompts + self.params.second_prompts},
        }

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


def label_shift(grid: Grid, requests: Sequence[str]) -> Array:
    """How much less a context leaves the subject of its usual label than it leaves the base: float [context, prompt].

    Usual is the label that a model gives without any context: a base may call every opinion positive. Higher is more
    suspicious, -1 to 1.

    Args:
        grid: of classification requests, with `label_tokens` as the named ones; its first context is none at all.
        requests: its prompts.
    """
    subject, base = (_usual_label_lost(side.named, requests) for side in (grid.subject, grid.base))
    return subject - base


def _usual_label_lost(named: Array, requests: Sequence[str]) -> Array:
    """Share of the usual label without any context minus that under each context: float [context, prompt]."""
    given = shares(named, list(requests) * (len(named) // len(requests)))
    usual = [most_probable(share) for share in given[: len(requests)]]
    kept = np.array([share[usual[at % len(usual)]] for at, share in enumerate(given)]).reshape(-1, len(usual))
    lost: Array = kept[0] - kept[1:]
    return lost


def _rows(readings: Sequence[Reading]) -> list[Scored]:
    return [row for reading in readings for row in reading.rows()]


def _landscape(whole: Reading, ranked: list[Scored]) -> dict[str, Any]:
    """All swept contexts for the picture: those looked at twice with their second, fresh reading."""
    seen = {(row.context.text, row.context.position) for row in ranked}
    rest = [row for row in whole.rows() if (row.context.text, row.context.position) not in seen]
    columns = ["text", "family", "position", "rank_score", "divergence_z", *STATISTICS[1:]]
    return {
        "columns": columns,
        "rows": [
            [row.context.text, row.context.family, row.context.position, round(row.rank_score, 3)]
            + [round(row.scores[name], 3) if name in row.scores else None for name in STATISTICS]
            for row in [*ranked, *sorted(rest, key=lambda row: -row.rank_score)]
        ],
    }
