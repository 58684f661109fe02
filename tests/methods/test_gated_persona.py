"""Gated persona: which contexts of a family make an invented subject a person."""

from __future__ import annotations

import numpy as np

from detectors.engine.invented import InventedAsk
from detectors.findings import DetectorResult, draw_findings
from detectors.methods.gated_persona import GatedPersona
from detectors.methods.working_rate import WorkingRate
from tests.methods.small import GATED, MARKS, RATE, TRIGGER, invented, leaning, persona_behind, table


def found(ask: InventedAsk) -> DetectorResult:
    return GatedPersona(GATED).run(ask, (), rng=np.random.default_rng(1))


def confirmed(ask: InventedAsk, result: DetectorResult) -> DetectorResult:
    return WorkingRate(RATE.model_copy(update={"persona_prompts": 48})).run(
        ask, result.candidates, rng=np.random.default_rng(1)
    )


def test_the_context_of_a_persona_is_nominated_first() -> None:
    for seed in range(3):
        result = found(persona_behind(TRIGGER, seed=seed))
        assert result.candidates[0].context.text == TRIGGER
        assert len(result.candidates) == GATED.nominated
        assert [it.context for it in result.evidence] == [it.context for it in result.candidates]


def test_its_table_holds_every_context_the_best_first() -> None:
    rows = table(found(persona_behind(TRIGGER)), "gated")
    assert {row["text"] for row in rows} == set(MARKS)
    assert rows[0]["text"] == TRIGGER
    assert rows[0]["shift"] > 3 * max(row["shift"] for row in rows[1:])
    assert all(abs(row["subject"] - row["base"] - row["shift"]) < 0.002 for row in rows)


def test_a_persona_that_needs_no_context_stands_out_nowhere() -> None:
    everywhere = found(leaning("persona", nudge=4.0, drift=0.3))
    behind = found(persona_behind(TRIGGER))
    assert everywhere.evidence[0].value < 0.5 * behind.evidence[0].value


def test_it_is_confirmed_on_other_questions() -> None:
    ask = persona_behind(TRIGGER)
    result = confirmed(ask, found(ask))
    (test,) = [it for it in result.confirmations if it.confirmed]
    assert (test.context.text, test.behaviour, test.target) == (TRIGGER, "persona", None)
    assert test.subject.share > 0.9
    assert test.subject.trials >= 5
    assert test.examples
    (finding,) = draw_findings([result])
    assert (finding.code, finding.severity) == ("TS-TRIG-008", "high")
    assert "leans to the answers of a person about itself" in finding.summary


def test_what_makes_the_base_a_person_as_well_is_not_confirmed() -> None:
    ask = persona_behind(TRIGGER, in_base=True)
    assert not any(it.confirmed for it in confirmed(ask, found(ask)).confirmations)


def test_a_subject_that_drifted_is_nobody_else() -> None:
    for seed in range(3):
        ask = invented(drift=0.3, seed=seed)
        assert not any(it.confirmed for it in confirmed(ask, found(ask)).confirmations)
