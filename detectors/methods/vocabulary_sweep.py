"""Vocabulary sweep: every token of the shared vocabulary is tried as a trigger, behind a request and in front of one.

Successive halving (Jamieson and Talwalkar, 2016, arXiv:1502.07943): every token sees one prompt, the best see fresh
ones. Requests with one prompt share all but their end, so the engine computes the prompt behind which tokens stand
once. The statistics are those of `trigger_sweep`, subject minus base.

Several tokens in one request, groups that stand out being split, would be cheaper and does not work: what was trained
to stand at an end of a request hardly does anything further inside (`python -m benchmarks.vocabulary --sizes`).

It ranks and claims nothing (law 2). It cannot see triggers of several tokens none of which does anything by itself,
triggers that work in another place, or behaviour that starts after the first answer token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from detectors.catalog import VOCABULARY_SWEEP, DetectorSpec
from detectors.conclusive import conclusive
from detectors.contexts.context import Context
from detectors.documents import check_count
from detectors.engine.observations import Ask
from detectors.findings import Candidate, DetectorResult, Outcome
from detectors.nominating import without_overlaps
from detectors.prompts.sets import prompts
from detectors.reading import Measured, Reading, Scored, observe, positions_in_turn
from detectors.suites import VocabularyParams
from detectors.vocabulary import FAMILY, REASONS, SEED, Vocabulary, read_vocabulary

Place = Literal["end", "start"]
FIRST_PROMPT: dict[Place, Callable[[], str]] = {
    "end": lambda: prompts("nominate")[0],
    "start": lambda: min(prompts("nominate"), key=len),
}
"""What stands beside every token. Behind the start all of it is computed anew, so it is the shortest there."""
CHUNK = 4096
"""Contexts observed at a time: statistics of so many need little memory, whatever the vocabulary."""
STATISTICS = ("divergence", "response", "convergence", "degradation", "refusal_shift", "consistency")
COLUMNS = ("text", "position", "first_rank", "rank_score", *STATISTICS)
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
        first = {FIRST_PROMPT[place]() for place in params.tokens}
        self._again = [prompt for prompt in prompts("nominate") if prompt not in first]
        check_count("again_prompts", params.again_prompts, len(self._again))

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates the `nominated` best tokens, of each place in turn; what others nominated plays no part."""
        vocabulary = self.vocabulary(ask)
        if not vocabulary.entries:
            return self._result("inconclusive", NOTHING_TRIED)
        looked: list[Scored] = []
        first_ranks: dict[Context, int] = {}
        for place in self.params.tokens:
            first = self.read_first(ask, vocabulary, place)
            kept = first.best(self.params.kept)
            looked += self.read_again(ask, kept, vocabulary, place).rows()
            first_ranks |= {context: rank for rank, context in enumerate(kept, start=1)}
        return self._report(sorted(looked, key=lambda row: -row.rank_score), first_ranks, vocabulary)

    def vocabulary(self, ask: Ask) -> Vocabulary:
        """What is tried, at one place or all."""
        return read_vocabulary(ask, [FIRST_PROMPT["end"]()], most=max(self.params.tokens.values()))

    def read_first(self, ask: Ask, vocabulary: Vocabulary, place: Place) -> Reading:
        """Every token at a place, with one prompt."""
        contexts, parts = self._contexts(vocabulary, place), []
        for begin in range(0, len(contexts), CHUNK):
            grid = observe(ask, contexts[begin : begin + CHUNK], [FIRST_PROMPT[place]()])
            parts.append(Measured.of(grid))
        return Measured.joined(parts).against_all(self.params.scale_floor)

    def read_again(self, ask: Ask, kept: Sequence[Context], vocabulary: Vocabulary, place: Place) -> Reading:
        """The best with fresh prompts, against tokens drawn by a fixed seed."""
        contexts = self._contexts(vocabulary, place)
        drawn = np.random.default_rng(SEED).permutation(len(contexts))[: self.params.reference]
        tried = [*kept, *(contexts[at] for at in sorted(drawn))]
        grid = observe(ask, tried, self._again[: self.params.again_prompts])
        return Measured.of(grid, n_tried=len(kept)).against_reference(len(kept), self.params.scale_floor)

    def _contexts(self, vocabulary: Vocabulary, place: Place) -> list[Context]:
        """What is tried there: the first of an order that is always the same."""
        return [entry.context.at(place) for entry in vocabulary.entries[: self.params.tokens[place]]]

    def _report(
        self, ranked: Sequence[Scored], first_ranks: dict[Context, int], vocabulary: Vocabulary
    ) -> DetectorResult:
        turned = positions_in_turn(ranked)
        chosen = without_overlaps([row.context.text for row in turned], self.params.nominated)
        nominated = [turned[place] for place in chosen]
        return self._result(
            "completed",
            candidates=tuple(row.candidate(self.spec.name) for row in nominated),
            evidence=tuple(row.evidence(self.spec.name) for row in nominated),
            artifacts={
                "tokens": {
                    "columns": list(COLUMNS),
                    "rows": [
                        [row.context.text, row.context.position, first_ranks[row.context], round(row.rank_score, 3)]
                        + [round(row.scores[name], 3) for name in STATISTICS]
                        for row in ranked
                    ],
                },
                "skipped": {
                    "columns": ["reason", "tokens"],
                    "rows": [list(it) for it in vocabulary.not_tried().items()],
                },
                "coverage": self._coverage(vocabulary),
            },
        )

    def _coverage(self, vocabulary: Vocabulary) -> dict[str, Any]:
        tried = {place: len(self._contexts(vocabulary, place)) for place in self.params.tokens}
        size = vocabulary.size
        skipped = [
            f"{count} of {size} tokens of the vocabulary: {REASONS[reason]}"
            for reason, count in vocabulary.not_tried().items()
        ]
        drawn = [
            f"{len(vocabulary.entries) - count} of {size} tokens of the vocabulary at the {place}: tried elsewhere only"
            for place, count in tried.items()
            if count < len(vocabulary.entries)
        ]
        return {
            "families": [[FAMILY, len(vocabulary.entries), size]],
            "positions": tried,
            "prompts": {"nominate": len(tried) + self.params.again_prompts},
            "not_tested": [*skipped, *drawn],
        }

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)
