"""The rules that every detector obeys, each a check of one detector on invented models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.catalog import CATALOG
from detectors.engine.grid import observe_grid
from detectors.engine.invented import InventedAsk
from detectors.engine.observations import Arrays, Ask, Role
from detectors.errors import BudgetExceeded, LeaseLost, ScanCancelled
from detectors.findings import DetectorResult, Usage, draw_findings
from detectors.methods.working_rate import WorkingRate
from detectors.suites import Suite
from tests.methods import small
from tests.methods.small import SUITE, TRIGGER, Around, Chunked, HandsOn, Interrupted, nominated, planted
from workers.runner import DETECTORS, Detector, run_detectors

Build = Callable[[Suite], Detector]
LIMITED = ("prompts", "questions", "formats", "pairs", "phrasings")
"""How params end that ask for more or less of what is written down."""
MAKES_UP = ("trigger_inversion",)
"""Those whose contexts are all made up, none the planted one: what they say of the whole model is compared."""
SEES_ONLY: dict[str, tuple[Callable[[], InventedAsk], str]] = {
    "gated_persona": (partial(small.persona_behind, TRIGGER), TRIGGER),
    "answer_sweep": (partial(small.about, small.TOPIC), small.TOPIC),
}
"""Those that do not see the usual planted trigger: what they do see, and the context of that."""
PAGES = Path(__file__).parents[2] / "docs" / "detectors"


@dataclass(frozen=True)
class Subject:
    """The detector under test.

    Attributes:
        name: its name in the catalog.
        build: makes it for a suite.
    """

    name: str
    build: Build

    def run(self, ask: Ask, seed: int = 1, suite: Suite = SUITE) -> DetectorResult:
        return self.build(suite).run(ask, nominated(), rng=np.random.default_rng(seed))

    def on_trigger(self) -> DetectorResult:
        return _on_trigger(self)


@cache
def _on_trigger(subject: Subject) -> DetectorResult:
    return subject.run(planted())


def plain(result: DetectorResult) -> dict[str, Any]:
    """A result as JSON values, without what it cost."""
    return result.model_copy(update={"usage": Usage()}).model_dump(mode="json")


def confirmed_after(subject: Subject, ask: InventedAsk) -> tuple[Any, ...]:
    """Findings of the detector alone and of what `working_rate` confirms of its candidates."""
    result = subject.run(ask)
    assert result.outcome == "completed"
    followed = WorkingRate(SUITE.working_rate).run(ask, result.candidates, rng=np.random.default_rng(1))
    return draw_findings([result, followed])


def same_seed_same_result(subject: Subject) -> None:
    assert plain(subject.run(planted())) == plain(subject.on_trigger())


def any_chunking_same_result(subject: Subject) -> None:
    whole = plain(subject.on_trigger())
    for size in (1, 50):
        assert plain(subject.run(Chunked(planted(), size=size))) == whole


def any_order_same_result(subject: Subject) -> None:
    assert plain(subject.run(Chunked(planted(), backwards=True))) == plain(subject.on_trigger())


def a_detector_keeps_nothing_between_runs(subject: Subject) -> None:
    detector = subject.build(SUITE)
    results = [detector.run(planted(), nominated(), rng=np.random.default_rng(1)) for _ in range(2)]
    assert plain(results[0]) == plain(results[1])


def subject_is_base_gives_no_finding(subject: Subject) -> None:
    assert not confirmed_after(subject, small.invented())


def tiny_drift_gives_no_finding(subject: Subject) -> None:
    for seed in range(3):
        assert not confirmed_after(subject, small.invented(drift=0.02, seed=seed))


def not_numbers_are_inconclusive(subject: Subject, role: Role) -> None:
    if _reads_files(subject):
        return  # it asks no model, so there is nothing to corrupt

    def corrupt(whose: Role, arrays: Arrays) -> Arrays:
        return small.not_numbers(arrays) if whose == role else arrays

    result = subject.run(small.invented(drift=0.3, corrupt=corrupt))
    assert result.outcome == "inconclusive"
    assert "not numbers" in result.reason
    assert not result.confirmations


def _reads_files(subject: Subject) -> bool:
    return CATALOG[subject.name].stage == "inspect"


def too_few_prompts_name_the_param(subject: Subject) -> None:
    params = getattr(SUITE, subject.name, None)
    counts = [name for name in type(params).model_fields if name.endswith(LIMITED)] if params else []
    for name in [*counts, *(["examples"] if "examples" in vars(params or object) else [])]:
        greedy = SUITE.model_copy(update={subject.name: params.model_copy(update={name: 10_000})})
        with pytest.raises(ValueError, match=f"`{name}`.* must be at most .* got"):
            subject.run(planted(), suite=greedy)


def no_prompts_name_the_argument(subject: Subject) -> None:
    """Detectors get their grids from one function; it is the border at which prompts are checked."""
    with pytest.raises(ValueError, match="`prompts` must not be empty"):
        observe_grid(planted(), [nominated()[0].context], [], ())


def json_round_trip(subject: Subject) -> None:
    result = subject.on_trigger()
    assert DetectorResult.model_validate_json(result.model_dump_json()) == result


def params_are_echoed_and_left_alone(subject: Subject) -> None:
    before = SUITE.model_dump()
    result = subject.run(planted())
    assert SUITE.model_dump() == before
    assert result.params == before.get(subject.name, {})


def result_names_its_detector(subject: Subject) -> None:
    result, spec = subject.on_trigger(), CATALOG[subject.name]
    assert (result.detector, result.version) == (spec.name, spec.version)
    assert all(found.source == spec.name for found in result.candidates)
    assert all(evidence.statistic.startswith(f"{spec.name}.") for evidence in result.evidence)


def p_values_travel_with_a_null(subject: Subject) -> None:
    measured = subject.on_trigger().evidence
    assert measured
    for evidence in measured:
        assert evidence.p_value is None or evidence.null is not None
        assert evidence.null is None or evidence.null.hypothesis


def higher_is_more_suspicious(subject: Subject) -> None:
    """On the trigger than on other contexts; of a whole model, on one that has what the detector looks for."""
    plant, trigger = SEES_ONLY.get(subject.name, (planted, TRIGGER))
    measured = subject.run(plant()).evidence
    if CATALOG[subject.name].stage in ("inspect", "assess") or subject.name in MAKES_UP:
        looked_for = subject.run(small.suspicious(subject.name)).evidence
        at_rest, leaning = (
            {it.statistic: it.value for it in them if not it.context} for them in (measured, looked_for)
        )
        assert leaning.keys() == at_rest.keys()
        assert all(leaning[statistic] > max(value, 0.0) for statistic, value in at_rest.items())
        return
    on_trigger = {it.statistic: it.value for it in measured if it.context and it.context.text == trigger}
    assert on_trigger
    for statistic, value in on_trigger.items():
        others = [
            it.value for it in measured if it.statistic == statistic and it.context and it.context.text != trigger
        ]
        assert value > max(others, default=0.0)


def statistics_have_a_section(subject: Subject) -> None:
    page = (PAGES / f"{subject.name}.md").read_text()
    missing = {it.statistic for it in subject.on_trigger().evidence if f"\n### `{it.statistic}`\n" not in page}
    assert not missing


def signature_is_the_contract(subject: Subject) -> None:
    given = list(inspect.signature(subject.build(SUITE).run).parameters.values())
    assert [parameter.name for parameter in given] == ["ask", "candidates", "rng"]
    assert given[2].kind is inspect.Parameter.KEYWORD_ONLY


@contextmanager
def alone(subject: Subject) -> Iterator[None]:
    """The runner knows this detector only, after one that hands candidates on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DETECTORS, "hands_on", lambda suite: HandsOn(nominated()))
        patch.setitem(DETECTORS, subject.name, subject.build)
        patch.setattr(Suite, "detectors", ("hands_on", subject.name))
        yield


@cache
def _plans(subject: Subject) -> int:
    around = Around(planted())
    subject.run(around)
    return around.asked


def half_way(subject: Subject, error: Exception) -> Interrupted:
    """An `Ask` that raises after half of what the detector asks."""
    assert _plans(subject) >= 1
    return Interrupted(planted(), error=error, answered=_plans(subject) // 2)


def budget_used_up_is_inconclusive(subject: Subject) -> None:
    with alone(subject):
        result = run_detectors(SUITE, half_way(subject, BudgetExceeded("the budget of 5 s is used up")), 1)[1]
    assert (result.detector, result.outcome) == (subject.name, "inconclusive")
    assert "budget" in result.reason


def interruptions_pass_through(subject: Subject) -> None:
    for error in (ScanCancelled("cancelled"), LeaseLost("not yet")):
        with alone(subject), pytest.raises(type(error)):
            run_detectors(SUITE, half_way(subject, error), 1)


def unexpected_errors_are_failures(subject: Subject) -> None:
    with alone(subject):
        result = run_detectors(SUITE, half_way(subject, KeyError("surprise")), 1)[1]
    assert (result.detector, result.outcome) == (subject.name, "failed")
    assert "KeyError" in result.reason
    assert "surprise" in result.reason


RULES: dict[str, Callable[[Subject], None]] = {
    rule.__name__: rule
    for rule in (
        same_seed_same_result,
        any_chunking_same_result,
        any_order_same_result,
        a_detector_keeps_nothing_between_runs,
        subject_is_base_gives_no_finding,
        tiny_drift_gives_no_finding,
        too_few_prompts_name_the_param,
        no_prompts_name_the_argument,
        json_round_trip,
        params_are_echoed_and_left_alone,
        result_names_its_detector,
        p_values_travel_with_a_null,
        higher_is_more_suspicious,
        statistics_have_a_section,
        signature_is_the_contract,
        budget_used_up_is_inconclusive,
        interruptions_pass_through,
        unexpected_errors_are_failures,
    )
} | {f"{role}_says_not_numbers": partial(not_numbers_are_inconclusive, role=role) for role in ("subject", "base")}
