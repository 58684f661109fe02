"""Runs the detectors of a suite over an `ask`. The one place where a detector's error is caught.

A detector that fails is a result, and the scan goes on. A machine that stays broken after retries leaves the detector
that needed it inconclusive. A cancelled scan, a broken store and a
database that is away end everything.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

import numpy as np

from detectors.catalog import CATALOG
from detectors.engine.observations import Ask
from detectors.errors import BudgetExceeded, HostError, InputError, Interruption, MachineError
from detectors.findings import Candidate, DetectorResult, Outcome, Usage
from detectors.methods.activation_clustering import ActivationClustering
from detectors.methods.answer_sweep import AnswerSweep
from detectors.methods.artifact_diff import ArtifactDiff
from detectors.methods.calibration import Calibration
from detectors.methods.context_grid import ContextGrid
from detectors.methods.era import Era
from detectors.methods.gated_persona import GatedPersona
from detectors.methods.goals import Goals
from detectors.methods.persona import Persona
from detectors.methods.preferences import Preferences
from detectors.methods.regime import Regime
from detectors.methods.strip import Strip
from detectors.methods.target_inversion import TargetInversion
from detectors.methods.trigger_inversion import TriggerInversion
from detectors.methods.trigger_sweep import TriggerSweep
from detectors.methods.values import Values
from detectors.methods.vocabulary_sweep import VocabularySweep
from detectors.methods.weight_delta import WeightDelta
from detectors.methods.working_rate import WorkingRate
from detectors.suites import Suite

Params = TypeVar("Params")


class Detector(Protocol):
    """The contract of every detector; `tests/contract` checks its rules on each."""

    def run(self, ask: Ask, candidates: tuple[Candidate, ...], *, rng: np.random.Generator) -> DetectorResult:
        """A deterministic function of what `ask` answers, the candidates and the generator."""


def _given(params: Params | None) -> Params:
    """The params of a detector that the suite runs; `Suite.detectors` names only those that have some."""
    if params is None:
        raise ValueError("`suite` must have params for each of its detectors, got None")
    return params


DETECTORS: dict[str, Callable[[Suite], Detector]] = {
    "artifact_diff": lambda suite: ArtifactDiff(_given(suite.artifact_diff)),
    "weight_delta": lambda suite: WeightDelta(_given(suite.weight_delta)),
    "trigger_sweep": lambda suite: TriggerSweep(suite.trigger_sweep),
    "vocabulary_sweep": lambda suite: VocabularySweep(_given(suite.vocabulary_sweep)),
    "target_inversion": lambda suite: TargetInversion(_given(suite.target_inversion)),
    "trigger_inversion": lambda suite: TriggerInversion(_given(suite.trigger_inversion)),
    "answer_sweep": lambda suite: AnswerSweep(_given(suite.answer_sweep)),
    "context_grid": lambda suite: ContextGrid(_given(suite.context_grid)),
    "gated_persona": lambda suite: GatedPersona(_given(suite.gated_persona)),
    "working_rate": lambda suite: WorkingRate(suite.working_rate),
    "strip": lambda suite: Strip(_given(suite.strip)),
    "activation_clustering": lambda suite: ActivationClustering(_given(suite.activation_clustering)),
    "persona": lambda suite: Persona(_given(suite.persona)),
    "era": lambda suite: Era(_given(suite.era)),
    "regime": lambda suite: Regime(_given(suite.regime)),
    "values": lambda suite: Values(_given(suite.values)),
    "goals": lambda suite: Goals(_given(suite.goals)),
    "preferences": lambda suite: Preferences(_given(suite.preferences)),
    "calibration": lambda suite: Calibration(_given(suite.calibration)),
}


def run_detectors(
    suite: Suite,
    ask: Ask,
    seed: int,
    *,
    usage: Callable[[], Usage] = Usage,
    announce: Callable[[str], None] = lambda name: None,
) -> tuple[DetectorResult, ...]:
    """The results of a suite's detectors, in order; each hands its candidates on.

    Args:
        suite: what to run.
        ask: answers observations.
        seed: of the scan.
        usage: reads the meter of `ask`.
        announce: called with each detector's name before it runs.

    Raises:
        ScanCancelled: if the scan was cancelled.
        MachineError: if observations cannot be kept, or the service's database is away.
    """
    results: list[DetectorResult] = []
    for name in suite.detectors:
        announce(name)
        before, started = usage(), time.monotonic()
        result = _guarded(name, suite, ask, _handed_on(results), generator(suite.version, seed, name))
        spent = _difference(usage(), before, time.monotonic() - started)
        results.append(result.model_copy(update={"usage": spent}))
    return tuple(results)


def _handed_on(results: Sequence[DetectorResult]) -> tuple[Candidate, ...]:
    """The candidates of all detectors, one of each in turn by rank: scores of two nominators cannot be compared."""
    ranks = zip_longest(*(result.candidates for result in results))
    return tuple(candidate for rank in ranks for candidate in rank if candidate is not None)


def generator(suite_version: str, seed: int, detector: str) -> np.random.Generator:
    """The random generator of a detector in a scan."""
    digest = hashlib.sha256(f"{suite_version}/{seed}/{detector}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _guarded(
    name: str, suite: Suite, ask: Ask, candidates: tuple[Candidate, ...], rng: np.random.Generator
) -> DetectorResult:
    try:
        return DETECTORS[name](suite).run(ask, candidates, rng=rng)
    except (BudgetExceeded, HostError) as error:
        return _without_result(name, "inconclusive", str(error))
    except (Interruption, MachineError):
        raise
    except InputError as error:
        return _without_result(name, "inconclusive", str(error))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} (in {where.name}, line {where.lineno})"
        return _without_result(name, "failed", reason[:1000])


def _without_result(name: str, outcome: Outcome, reason: str) -> DetectorResult:
    return CATALOG[name].result(outcome, reason)


def _difference(after: Usage, before: Usage, seconds: float) -> Usage:
    counts: dict[str, Any] = {
        name: getattr(after, name) - getattr(before, name)
        for name in ("forward_tokens", "generated_tokens", "observations", "store_hits")
    }
    return Usage(**counts, seconds=round(seconds, 3))
