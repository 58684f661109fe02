"""Weight delta: which rows of the embeddings were trained, and what the rest of the update looks like.

A trigger whose embedding was trained leaves its row far from the base's while the other rows hardly move: rows are
ranked by how far they moved, as a robust z over the vocabulary, and the tokens of those that stand out are nominated.
Where no row was trained this says nothing at all, which is not the same as nothing found.

Of every matrix the update is described as well: its size relative to the base's, how much of its energy the largest
singular values hold, their entropy, the kurtosis of its entries, and whether attention writes in the same direction in
all layers. Every fine-tune moves weights, so these are compared with nothing here, and no verdict reads them.

It cannot see a trigger whose token's row was left alone, as most LoRA adapters leave all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from detectors.catalog import WEIGHT_DELTA, DetectorSpec
from detectors.contexts.context import Context
from detectors.engine.observations import Array, Ask
from detectors.engine.update import TOKEN_ROWS, WeightUpdate
from detectors.findings import Candidate, DetectorResult, Evidence, Null, Outcome
from detectors.stats import robust_z
from detectors.suites import WeightParams
from detectors.vocabulary import FAMILY, REPLACEMENT

NO_ROWS = "no row of an embedding was trained, so rows say nothing about triggers"
NOT_TESTED = "triggers by their rows in the embeddings: none of these was trained"
NOT_NUMBERS = "the update of a weight is too large for a number, or not a number"
OTHER_ROWS = "the token's row moved no further than the rows of other tokens did"
COLUMNS = ("module", "layer", "relative_norm", "top_1", "top_16", "entropy", "kurtosis")
ROW_COLUMNS = ("token", "text", "row_shift", *(f"{name}_moved" for name in TOKEN_ROWS))


class WeightDelta:
    """Describes the update, and nominates the tokens whose rows moved furthest.

    Args:
        params: how much is handed on; see `WeightParams`.
    """

    spec: ClassVar[DetectorSpec] = WEIGHT_DELTA

    def __init__(self, params: WeightParams) -> None:
        self.params = params

    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Reads the update; candidates and chance play no part."""
        update, vocabulary = ask.weights, ask.facts["base"].vocabulary
        if not update.finite():
            return self._result("inconclusive", NOT_NUMBERS)
        shifts = row_shifts(update, self.params.scale_floor)
        nominated = _furthest(shifts, vocabulary, self.params.nominated)
        coverage = {} if len(shifts) else {"coverage": {"not_tested": [NOT_TESTED]}}
        return self._result(
            "completed",
            "" if len(shifts) else NO_ROWS,
            candidates=tuple(_candidate(context, shifts[token]) for token, context in nominated.items()),
            evidence=(
                *_described(update),
                *(_row_evidence(context, shifts[token], len(shifts)) for token, context in nominated.items()),
            ),
            artifacts={"modules": _module_table(update), "rows": _row_table(update, shifts, nominated)} | coverage,
        )

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


def row_shifts(update: WeightUpdate, floor: float) -> Array:
    """How far each token's row stands out, in the embedding where it does so more: float [token].

    Args:
        floor: smallest spread that a z divides by, in median lengths of the base's rows.

    Returns:
        Robust standard deviations, empty where no row moved.
    """
    scores = [robust_z(moved, floor=floor) for moved in update.rows.values() if moved.size]
    size = min(map(len, scores), default=0)
    return np.max([score[:size] for score in scores], axis=0) if scores else np.zeros(0)


def shares(update: WeightUpdate) -> Array:
    """Share of its matrix's energy that each of the largest singular values holds: float [module, LEADING]."""
    energies = update.spectra.astype(float) ** 2
    whole = np.maximum(update.norms.astype(float) ** 2, energies.sum(axis=1))
    found: Array = energies / np.maximum(whole, np.finfo(float).tiny)[:, None]
    return found


def entropies(energy: Array) -> Array:
    """Entropy of the energy over the largest singular values and, as one more, all others, nats: float [module].

    Args:
        energy: float [module, LEADING], from `shares`.
    """
    parts = np.column_stack([energy, np.maximum(1.0 - energy.sum(axis=1), 0.0)])
    found: Array = -(parts * np.log(np.where(parts > 0, parts, 1.0))).sum(axis=1)
    return found


def _furthest(shifts: Array, vocabulary: Sequence[str], count: int) -> dict[int, Context]:
    """The tokens that stand out most and can be written down, at the end of a prompt; each text once."""
    found: dict[str, int] = {}
    for token in np.argsort(-shifts[: len(vocabulary)], kind="stable"):
        text = vocabulary[token].strip()
        if shifts[token] <= 0 or len(found) == count:
            break
        if text and REPLACEMENT not in text:
            found.setdefault(text, int(token))
    return {token: Context(text=text, family=FAMILY) for text, token in found.items()}


def _candidate(context: Context, shift: float) -> Candidate:
    reason = f"its row in the embeddings moved further than others, robust z {shift:.1f}"
    return Candidate(context=context, score=float(shift), source=WEIGHT_DELTA.name, reason=reason)


def _row_evidence(context: Context, shift: float, size: int) -> Evidence:
    return Evidence(
        statistic=f"{WEIGHT_DELTA.name}.row_shift",
        value=float(shift),
        unit="robust standard deviations",
        null=Null(kind="population", size=size, hypothesis=OTHER_ROWS),
        context=context,
    )


def _described(update: WeightUpdate) -> list[Evidence]:
    """One number each for the whole update; matrices count by their energy. None of an update that there is not."""
    if not len(update.modules):
        return []
    energy = update.norms.astype(float) ** 2
    weights = energy / max(energy.sum(), np.finfo(float).tiny)
    read = {
        "update_norm": (np.sqrt(energy.sum() / (update.base_norms.astype(float) ** 2).sum()), "share of the base's"),
        "top_energy": (weights @ shares(update)[:, 0], "share of the energy"),
        "kurtosis": (weights @ update.kurtosis.astype(float), "excess over Gaussian entries"),
        "coherence": (update.coherence, "mean absolute cosine"),
    }
    return [
        Evidence(statistic=f"{WEIGHT_DELTA.name}.{name}", value=float(value), unit=unit)
        for name, (value, unit) in read.items()
        if not np.isnan(value)
    ]


def _module_table(update: WeightUpdate) -> dict[str, Any]:
    energy = shares(update)
    relative = update.norms / np.maximum(update.base_norms, np.finfo(np.float32).tiny)
    measured = np.column_stack([relative, energy[:, 0], energy.sum(axis=1), entropies(energy), update.kurtosis])
    named = zip(update.modules, update.layers(), measured.tolist(), strict=True)
    rows = [[name, layer, *(round(value, 6) for value in values)] for name, layer, values in named]
    return {"columns": list(COLUMNS), "rows": rows}


def _row_table(update: WeightUpdate, shifts: Array, nominated: dict[int, Context]) -> dict[str, Any]:
    """What was nominated, with how far each row moved, in median lengths of the base's rows."""
    moved = {name: table for name, table in update.rows.items() if table.size}
    rows = [
        [token, context.text, round(float(shifts[token]), 3)]
        + [round(float(moved[name][token]), 6) if name in moved else None for name in TOKEN_ROWS]
        for token, context in nominated.items()
    ]
    return {"columns": list(ROW_COLUMNS), "rows": rows}
