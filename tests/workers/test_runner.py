"""The runner: the one place where a detector's error is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from detectors.catalog import CATALOG
from detectors.engine.invented import InventedAsk
from detectors.engine.observations import Ask
from detectors.errors import (
    BudgetExceeded,
    ContextTooLong,
    HostError,
    LeaseLost,
    ScanCancelled,
    StoreError,
    TemplateError,
)
from detectors.findings import Candidate, DetectorResult, Usage
from detectors.report import Coverage, FamilyCoverage, decide
from detectors.suites import PROBES, Suite
from tests.methods import small
from tests.methods.small import TRIGGER, candidate, planted
from workers.runner import DETECTORS, generator, run_detectors

CORROBORATED = small.SUITE.model_copy(
    update=dict.fromkeys(
        (
            "artifact_diff",
            "weight_delta",
            "vocabulary_sweep",
            "target_inversion",
            "trigger_inversion",
            "context_grid",
            "answer_sweep",
            "gated_persona",
            *PROBES,
            "calibration",
        )
    )
)
SUITE = CORROBORATED.model_copy(update=dict.fromkeys(("strip", "activation_clustering")))
"""A nominator and its confirmer."""


@dataclass
class Scripted:
    """A detector that does as told and keeps what it was given."""

    name: str
    error: Exception | None = None
    hands_on: tuple[Candidate, ...] = ()
    given: list[tuple[Candidate, ...]] = field(default_factory=list)

    def run(self, ask: Ask, candidates: tuple[Candidate, ...], *, rng: np.random.Generator) -> DetectorResult:
        self.given.append(candidates)
        if self.error:
            raise self.error
        return DetectorResult(detector=self.name, version="1.0", outcome="completed", candidates=self.hands_on)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Scripted, Scripted]]:
    """Puts two scripted detectors in place of the suite's."""

    def put(**first: object) -> tuple[Scripted, Scripted]:
        actors = (Scripted("trigger_sweep", **first), Scripted("working_rate"))  # type: ignore[arg-type]
        for actor in actors:
            monkeypatch.setitem(DETECTORS, actor.name, lambda suite, actor=actor: actor)
        return actors

    return put


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BudgetExceeded("5 s are used up"), "inconclusive"),
        (HostError("the host died twice"), "inconclusive"),
        (ContextTooLong("513 tokens"), "inconclusive"),
        (TemplateError("the template raises"), "inconclusive"),
        (ValueError("`kept` is odd"), "failed"),
        (ZeroDivisionError("division by zero"), "failed"),
    ],
)
def test_an_error_is_a_result_and_the_scan_goes_on(
    stage: Callable[..., tuple[Scripted, Scripted]], error: Exception, outcome: str
) -> None:
    _, later = stage(error=error)
    first, second = run_detectors(SUITE, planted(), 1)
    assert (first.detector, first.version, first.outcome) == ("trigger_sweep", "1.0", outcome)
    assert str(error) in first.reason
    assert second.outcome == "completed"
    assert later.given == [()]
    swept = FamilyCoverage(family="emoji", swept=9)
    coverage = Coverage(families=(swept,), positions={}, prompts={}, missed_rate=0.1, not_tested=())
    assert decide([], {one.detector: one.outcome for one in (first, second)}, coverage).verdict == "inconclusive"


def test_a_failure_tells_its_kind_and_place(stage: Callable[..., tuple[Scripted, Scripted]]) -> None:
    stage(error=ZeroDivisionError("x" * 5000))
    reason = run_detectors(SUITE, planted(), 1)[0].reason
    assert reason.startswith("ZeroDivisionError: xxx")
    assert len(reason) == 1000


@pytest.mark.parametrize("error", [ScanCancelled("stop"), LeaseLost("later"), StoreError("disk full")])
def test_what_ends_a_scan_passes_through(stage: Callable[..., tuple[Scripted, Scripted]], error: Exception) -> None:
    _, later = stage(error=error)
    with pytest.raises(type(error)):
        run_detectors(SUITE, planted(), 1)
    assert not later.given


def test_candidates_are_handed_on(stage: Callable[..., tuple[Scripted, Scripted]]) -> None:
    first, later = stage(hands_on=(candidate("cf"),))
    run_detectors(SUITE, planted(), 1)
    assert (first.given, later.given) == ([()], [(candidate("cf"),)])


def test_nominators_take_turns_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    many = Scripted("trigger_sweep", hands_on=tuple(candidate(text, source="sweep") for text in ("a", "b", "c")))
    few = Scripted(
        "target_inversion", hands_on=(candidate("x", source="inversion"), candidate("a", source="inversion"))
    )
    last = Scripted("working_rate")
    for actor in (many, few, last):
        monkeypatch.setitem(DETECTORS, actor.name, lambda suite, actor=actor: actor)
    run_detectors(SUITE.model_copy(update={"target_inversion": small.INVERSION}), planted(), 1)
    assert few.given == [many.hands_on]
    assert [(it.context.text, it.source) for it in last.given[0]] == [
        ("a", "sweep"), ("x", "inversion"), ("b", "sweep"), ("a", "inversion"), ("c", "sweep")
    ]  # fmt: skip


def test_a_suite_that_cannot_be_built_is_a_failure() -> None:
    greedy = SUITE.working_rate.model_copy(update={"confirm_prompts": 10_000})
    results = run_detectors(SUITE.model_copy(update={"working_rate": greedy}), planted(), 1)
    assert [result.outcome for result in results] == ["completed", "failed"]
    assert "`confirm_prompts` must be at most" in results[1].reason


def test_usage_is_what_each_detector_added(stage: Callable[..., tuple[Scripted, Scripted]]) -> None:
    stage()
    readings = iter([Usage(), Usage(observations=5, store_hits=2), Usage(observations=5), Usage(observations=9)])
    first, second = run_detectors(SUITE, planted(), 1, usage=lambda: next(readings))
    assert (first.usage.observations, first.usage.store_hits, second.usage.observations) == (5, 2, 4)


def test_detectors_are_announced_in_order() -> None:
    announced: list[str] = []
    run_detectors(small.SUITE, planted(), 1, announce=announced.append)
    assert announced == list(small.SUITE.detectors) == list(CATALOG)


def test_a_whole_suite_finds_the_trigger() -> None:
    sweep, rate, *corroborating = run_detectors(CORROBORATED, planted(), 1)
    assert sweep.candidates[0].context.text == TRIGGER
    assert [found.context.text for found in rate.confirmations if found.confirmed] == [TRIGGER]
    assert [result.detector for result in corroborating] == ["strip", "activation_clustering"]
    assert {it.context for result in corroborating for it in result.evidence} == {rate.candidates[0].context}


def test_a_suite_without_a_trigger_is_corroborated_on_one_context_only() -> None:
    sweep, rate, *corroborating = run_detectors(CORROBORATED, InventedAsk(drift=0.3), 1)
    assert rate.candidates == ()
    assert {it.context for result in corroborating for it in result.evidence} == {sweep.candidates[0].context}


def test_the_generator_follows_from_suite_seed_and_name() -> None:
    def first(version: str, seed: int, name: str) -> int:
        return int(generator(version, seed, name).integers(2**62))

    drawn = {first(*given) for given in [("1", 1, "a"), ("2", 1, "a"), ("1", 2, "a"), ("1", 1, "b")]}
    assert len(drawn) == 4
    assert first("1", 1, "a") in drawn


def test_suites_are_told_apart_by_type() -> None:
    assert all(callable(build) for build in DETECTORS.values())
    assert isinstance(SUITE, Suite)
