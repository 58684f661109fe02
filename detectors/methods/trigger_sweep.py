"""Trigger sweep: many contexts around clean prompts, ranked by how they move the subject's next token off the base's.

After STRIP (Gao et al., 2019, arXiv:1902.06531), with prompts as the perturbation, and made paired: every statistic is
subject minus base, and compared with other contexts of the same scan at the same position. Stage one asks a few prompts
of every context, each where its family belongs; stage two asks fresh prompts of the best and of a random reference. The
best are then tried at other positions, and as pairs; and filler makes requests longer (`detectors.structured`).
It ranks and claims nothing: a null of 1,500 contexts has no p-value small enough to survive their number (law 2).

Harmful and classification requests are asked as well, of the best contexts only: a lowered guard and changed labels
may show nowhere else.

It cannot see triggers that share no part with a swept context, or behaviour that starts after the first answer token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detectors.catalog import TRIGGER_SWEEP, DetectorSpec
from detectors.conclusive import conclusive
from detectors.contexts.context import NO_CONTEXT, Context, Position, chat
from detectors.contexts.families import FAMILIES, longer, universe_size
from detectors.documents import check_count
from detectors.engine.grid import Grid, observe_grid
from detectors.engine.observations import Array, Ask
from detectors.engine.shipped import ChatAt
from detectors.findings import Candidate, DetectorResult, Outcome
from detectors.labels import label_tokens, most_probable, shares
from detectors.nominating import contexts_to_try, without_overlaps
from detectors.prompts.sets import harmful, labelled, prompts
from detectors.reading import Measured, Reading, Scored, observe, positions_in_turn, read_grid
from detectors.structured import FILLER, PAIRED_AT, different_lengths, read_lengths, read_pairs
from detectors.suites import SweepParams

REFERENCE_SEED = 20_26
PAYS = 0.8
"""Share of the score of a text that another in it may have; with more of it, what was added does not pay."""
STATISTICS = (
    "divergence",
    "response",
    "convergence",
    "degradation",
    "refusal_shift",
    "compliance_shift",
    "label_shift",
    "consistency",
)
SYSTEM_CHAT = ChatAt(chat(Context(text="Halibut.", family="none", position="system"), "Hello"), "2026-01-01T12:00:00")
"""Says whether a template shows system messages."""


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
        check_count("position_prompts", params.position_prompts, wanted)
        check_count("length_prompts", params.length_prompts, wanted)
        check_count("harmful_prompts", params.harmful_prompts, len(harmful("nominate")))
        check_count("label_prompts", params.label_prompts, len(labelled("nominate")))

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates the best contexts of each kind; `candidates` of other nominators are swept along."""
        whole = read_grid(self.first_grid(ask, candidates), self.params.scale_floor)
        return self._report(whole, self._look_again(ask, whole), ask)

    def first_grid(self, ask: Ask, candidates: Sequence[Candidate]) -> Grid:
        """What stage one observes: every context with a few prompts."""
        shown = shows_system_messages(ask)
        contexts = contexts_to_try(ask, self.params.families, candidates)
        return observe(ask, [it for it in contexts if shown or it.position != "system"], self._prompts()[0])

    def _prompts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        available, first = prompts("nominate"), self.params.first_prompts
        return available[:first], available[first : first + self.params.second_prompts]

    def _position_prompts(self) -> tuple[str, ...]:
        first, second = self._prompts()
        return (*second, *first)[: self.params.position_prompts]

    def _look_again(self, ask: Ask, whole: Reading) -> list[Reading]:
        """Stage two and all that follows it; what each step looks at is the best of those before."""
        wordings, floor = self.params.wordings, self.params.scale_floor
        kept = whole.best(self.params.kept)
        looked = [self._at_end(ask, [context for context in kept if context.position == "end"], whole)]
        looked += self._elsewhere(ask, kept, looked[0], whole)
        for _ in range(self.params.growth):
            looked += self._longer(ask, looked, whole)
        if self.params.paired:
            best, drawn = _best_texts(looked, whole, self.params.paired), self._reference(whole, "end")
            looked += [read_pairs(ask, best, drawn, self._position_prompts(), place, floor) for place in PAIRED_AT]
        if wordings:
            looked.append(read_lengths(ask, wordings, prompts("nominate")[: self.params.length_prompts], floor))
        return looked

    def _at_end(self, ask: Ask, kept: list[Context], whole: Reading) -> Reading:
        """Fresh prompts, harmful ones where a lowered guard shows, and some that ask for a label."""
        contexts = [*kept, *self._reference(whole, "end")]
        measured = Measured.of(observe(ask, contexts, self._prompts()[1]), n_tried=len(kept))
        values = dict(measured.values)
        guarded = harmful("nominate")[: self.params.harmful_prompts]
        if guarded:
            values["compliance_shift"] = -observe(ask, contexts, guarded).named_shift()
        sorting = labelled("nominate")[: self.params.label_prompts]
        if sorting:
            sorted_grid = observe_grid(ask, [NO_CONTEXT, *contexts], sorting, label_tokens(ask))
            values["label_shift"] = label_shift(sorted_grid, sorting)
        return replace(measured, values=values).against_reference(len(kept), self.params.scale_floor)

    def _elsewhere(self, ask: Ask, kept: list[Context], ended: Reading, whole: Reading) -> list[Reading]:
        """A reading for every other position: of kept contexts that belong there, and of the best from the end."""
        shown = shows_system_messages(ask)
        moved: dict[Position, int] = {
            place: count for place, count in self.params.moved.items() if shown or place != "system"
        }
        readings = []
        for place in dict.fromkeys([*moved, *(it.position for it in kept if it.position != "end")]):
            own = [context for context in kept if context.position == place]
            brought = [context.at(place) for context in ended.best(moved.get(place, 0))]
            contexts = list({context.text: context for context in (*brought, *own)}.values())
            readings.append(self._at(ask, place, contexts, whole))
        return readings

    def _at(self, ask: Ask, place: Position, contexts: Sequence[Context], whole: Reading) -> Reading:
        """Contexts at one position, against the reference there."""
        grid = observe(ask, [*contexts, *self._reference(whole, place)], self._position_prompts())
        return Measured.of(grid, n_tried=len(contexts)).against_reference(len(contexts), self.params.scale_floor)

    def _longer(self, ask: Ask, looked: Sequence[Reading], whole: Reading) -> list[Reading]:
        """The best of each family that goes on, each with one piece more, at the position where it was best."""
        tried = [row.context for row in _ranked(looked)]
        grown: dict[Context, None] = {}
        for family in dict.fromkeys(context.family for context in tried):
            best = [context for context in tried if context.family == family]
            pieces = list(dict.fromkeys(context.text for context in best))[: self.params.pieces]
            grown |= dict.fromkeys(it for context in best[: self.params.grown] for it in longer(context, pieces))
        new = [context for context in grown if context not in tried]
        places = dict.fromkeys(context.position for context in new)
        return [self._at(ask, place, [it for it in new if it.position == place], whole) for place in places]

    def _reference(self, whole: Reading, position: Position) -> list[Context]:
        """Contexts drawn by a fixed seed, so that a base's answers last, and put at a position.

        Half of them are contexts that belong there, where there are any; the others are brought from the end.
        """
        own = [context for context in whole.contexts if context.position == position]
        brought = [context.at(position) for context in whole.contexts if context.position == "end" != position]
        pools = [pool for pool in (own, brought) if pool]
        return [context for pool in pools for context in _drawn(pool, self.params.reference // len(pools))]

    def _report(self, whole: Reading, looked: list[Reading], ask: Ask) -> DetectorResult:
        ranked = _ranked(looked)
        nominated = self._nominated(ranked)
        return self._result(
            "completed",
            "",
            candidates=tuple(row.candidate(self.spec.name) for row in nominated),
            evidence=tuple(row.evidence(self.spec.name) for row in nominated),
            artifacts={"landscape": _landscape(whole, ranked), "coverage": self._coverage(whole, looked, ask)},
        )

    def _nominated(self, ranked: Sequence[Scored]) -> list[Scored]:
        """The best of each kind and position, since their scores cannot be compared; no text holds a better one.

        Nor does one hold another that does nearly as much: what was added to that does not pay.
        """
        best: dict[str, Scored] = {}
        for row in positions_in_turn(_worth_their_length(ranked)):
            best.setdefault(row.context.text, row)
        different = [list(best.values())[place] for place in without_overlaps(list(best), len(best))]
        pairs = [row for row in different if row.context.parts]
        longer = [row for row in different if row.context.family == FILLER]
        order = different_lengths([row.context for row in longer], [row.rank_score for row in longer])
        swept = [row for row in different if not row.context.parts and row.context.family != FILLER]
        params = self.params
        return [
            *swept[: params.nominated],
            *pairs[: params.paired_nominated],
            *(longer[place] for place in order[: params.longer_nominated]),
        ]

    def _coverage(self, whole: Reading, looked: list[Reading], ask: Ask) -> dict[str, Any]:
        tried = [context for reading in (whole, *looked) for context in reading.contexts]
        swept = Counter(family for family, _ in dict.fromkeys((context.family, context.text) for context in tried))
        positions = Counter(position for _, position in dict.fromkeys((it.text, it.position) for it in tried))
        vocabulary = ask.facts["base"].vocabulary
        sizes = {name: universe_size(name, vocabulary) for name in swept if name in FAMILIES}
        return {
            "families": [[name, count, sizes.get(name)] for name, count in swept.items()],
            "positions": dict(positions),
            "prompts": {"nominate": self.params.first_prompts + self.params.second_prompts},
        }

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


def shows_system_messages(ask: Ask) -> bool:
    """Whether the subject's template takes a system message and shows it; some refuse one, and some leave it out."""
    rendered = ask.render("subject", [SYSTEM_CHAT])[0]
    return not rendered.fault and str(SYSTEM_CHAT.messages[0]["content"]) in rendered.text


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


def _ranked(readings: Sequence[Reading]) -> list[Scored]:
    """All contexts of the readings, the largest rank score first."""
    return sorted((row for reading in readings for row in reading.rows()), key=lambda row: -row.rank_score)


def _worth_their_length(ranked: Sequence[Scored]) -> list[Scored]:
    """Without single texts that hold another, tried at the same position, with `PAYS` of their score."""
    single = [row for row in ranked if not row.context.parts and row.context.family != FILLER]

    def holds_one_as_good(row: Scored) -> bool:
        return any(
            other.context.text in row.context.text != other.context.text
            and other.context.position == row.context.position
            and other.rank_score >= PAYS * row.rank_score
            for other in single
        )

    left_out = {row.context for row in single if holds_one_as_good(row)}
    return [row for row in ranked if row.context not in left_out]


def _best_texts(looked: Sequence[Reading], whole: Reading, count: int) -> list[Context]:
    """The best of what was swept at the end, wherever it was best; none holds a better one."""
    at_end = set(whole.contexts)
    unique = list(dict.fromkeys(context for row in _ranked(looked) if (context := row.context.at("end")) in at_end))
    return [unique[place] for place in without_overlaps([context.text for context in unique], count)]


def _drawn(pool: Sequence[Context], count: int) -> list[Context]:
    order = np.random.default_rng(REFERENCE_SEED).permutation(len(pool))[:count]
    return [pool[place] for place in sorted(order)]


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
