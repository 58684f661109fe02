"""Vocabulary sweep: every token of the shared vocabulary is tried as a trigger, in groups and with few prompts first.

Group testing (Dorfman, 1943, Ann. Math. Statist. 14:436): several tokens stand behind a prompt at once, and groups
that stand out are split. Successive halving (Jamieson and Talwalkar, 2016, arXiv:1502.07943): all groups see few
prompts, the members of the best see fresh ones, the best of those many more. Requests with one prompt share all but
their end, so the engine computes the prompt once. The statistics are those of `trigger_sweep`, subject minus base.

It ranks and claims nothing (law 2). It cannot see triggers of several tokens none of which does anything by itself,
triggers that work in another place than the end only, or behaviour that starts after the first answer token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from detectors.catalog import VOCABULARY_SWEEP, DetectorSpec
from detectors.contexts.context import Context
from detectors.documents import check_count
from detectors.engine.observations import NOT_FINITE, Ask
from detectors.findings import Candidate, DetectorResult, Outcome
from detectors.prompts.sets import prompts
from detectors.reading import Measured, Reading, observe
from detectors.suites import VocabularyParams
from detectors.vocabulary import FAMILY, REASONS, SEED, Entry, Group, Vocabulary, read_vocabulary

CHUNK = 4096
"""Contexts observed at a time: statistics of so many need little memory, whatever the vocabulary."""
STATISTICS = ("divergence", "convergence", "degradation", "refusal_shift", "consistency")
COLUMNS = ("text", "token", "group_rank", "single_rank", "rank_score", *STATISTICS)
NOTHING_TRIED = "no token of the vocabulary comes back from its text behind a prompt"


class VocabularySweep:
    """Ranks the tokens of the vocabulary by paired statistics of the first answer token.

    Args:
        params: how much to look at; see `VocabularyParams`.

    Raises:
        ValueError: if the prompt set is too small for the params.
    """

    spec: ClassVar[DetectorSpec] = VOCABULARY_SWEEP

    def __init__(self, params: VocabularyParams) -> None:
        self.params = params
        names, wanted = "group_prompts` + `single_prompts` + `last_prompts", sum(self._prompt_counts())
        check_count(names, wanted, len(prompts("nominate")))

    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates the `nominated` best tokens; what others nominated plays no part."""
        vocabulary = self.vocabulary(ask)
        if not vocabulary.groups:
            return self._result("inconclusive", NOTHING_TRIED)
        by_group = self.read_groups(ask, vocabulary.groups)
        if by_group is None:
            return self._result("inconclusive", NOT_FINITE)
        best = [vocabulary.groups[place] for place in by_group.order()[: self.params.kept_groups]]
        singles = {single.context: single for group in best for single in split(group)}
        by_single = self.read_singles(ask, list(singles))
        if by_single is None:
            return self._result("inconclusive", NOT_FINITE)
        kept = by_single.best(self.params.kept)
        last = self.read_last(ask, kept, vocabulary)
        if last is None:
            return self._result("inconclusive", NOT_FINITE)
        table = _table(last, [singles[context].members[0] for context in kept], best)
        return self._report(last, table, vocabulary)

    def vocabulary(self, ask: Ask) -> Vocabulary:
        """What is tried, in groups."""
        params = self.params
        return read_vocabulary(ask, self._prompts(0), group_size=params.group_size, most=params.tokens)

    def read_groups(self, ask: Ask, groups: Sequence[Group]) -> Reading | None:
        """Stage one: every group with a few prompts; None if not finite, as in all stages."""
        return self._against_all(self._measured(ask, [group.context for group in groups], stage=0))

    def read_singles(self, ask: Ask, contexts: Sequence[Context]) -> Reading | None:
        """Stage two: the members of the best groups with fresh prompts."""
        return self._against_all(self._measured(ask, contexts, stage=1))

    def read_last(self, ask: Ask, kept: Sequence[Context], vocabulary: Vocabulary) -> Reading | None:
        """Stage three: the best with many fresh prompts, against tokens drawn by a fixed seed."""
        tried = [single.context for group in vocabulary.groups for single in split(group)]
        drawn = np.random.default_rng(SEED).permutation(len(tried))[: self.params.reference]
        measured = self._measured(ask, [*kept, *(tried[place] for place in sorted(drawn))], stage=2)
        return measured.against_reference(len(kept), self.params.scale_floor) if measured else None

    def _against_all(self, measured: Measured | None) -> Reading | None:
        return measured.against_all(self.params.scale_floor) if measured else None

    def _measured(self, ask: Ask, contexts: Sequence[Context], stage: int) -> Measured | None:
        parts = []
        for first in range(0, len(contexts), CHUNK):
            grid = observe(ask, contexts[first : first + CHUNK], self._prompts(stage))
            if not grid.finite():
                return None
            parts.append(Measured.of(grid))
        return Measured.joined(parts)

    def _prompt_counts(self) -> tuple[int, ...]:
        return self.params.group_prompts, self.params.single_prompts, self.params.last_prompts

    def _prompts(self, stage: int) -> tuple[str, ...]:
        """The prompts of a stage; no two stages share one."""
        counts = self._prompt_counts()
        first = sum(counts[:stage])
        return prompts("nominate")[first : first + counts[stage]]

    def _report(self, last: Reading, table: list[list[Any]], vocabulary: Vocabulary) -> DetectorResult:
        rows = last.rows()
        nominated = [rows[place] for place in last.order()[: self.params.nominated]]
        return self._result(
            "completed",
            candidates=tuple(row.candidate(self.spec.name) for row in nominated),
            evidence=tuple(row.evidence(self.spec.name) for row in nominated),
            artifacts={
                "tokens": {"columns": list(COLUMNS), "rows": table},
                "skipped": {
                    "columns": ["reason", "tokens"],
                    "rows": [list(it) for it in vocabulary.not_tried().items()],
                },
                "coverage": self._coverage(vocabulary),
            },
        )

    def _coverage(self, vocabulary: Vocabulary) -> dict[str, Any]:
        return {
            "families": [[FAMILY, vocabulary.tried, vocabulary.size]],
            "positions": {"end": vocabulary.tried},
            "prompts": {"nominate": sum(self._prompt_counts())},
            "not_tested": [
                f"{count} of {vocabulary.size} tokens of the vocabulary: {REASONS[reason]}"
                for reason, count in vocabulary.not_tried().items()
            ],
        }

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


def split(group: Group) -> list[Group]:
    """The members, each by itself."""
    return [Group((member,)) for member in group.members]


def _table(last: Reading, entries: Sequence[Entry], best: Sequence[Group]) -> list[list[Any]]:
    """What was looked at last, the best first.

    Args:
        last: the reading of stage three.
        entries: its tokens, in the order of stage two.
        best: the groups that were split, in the order of stage one.
    """
    group_rank = {member: rank for rank, group in enumerate(best, start=1) for member in group.members}
    rows = last.rows()
    return [
        [entries[place].text, entries[place].token, group_rank[entries[place]], 1 + int(place)]
        + [round(value, 3) for value in (rows[place].rank_score, *(rows[place].scores[name] for name in STATISTICS))]
        for place in last.order()
    ]
