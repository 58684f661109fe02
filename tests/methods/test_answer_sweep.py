"""Answer sweep: on which topics, and from which length on, an invented subject says what its base would not say."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.contexts.families import FAMILIES, filler
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.findings import DetectorResult, draw_findings
from detectors.methods.answer_sweep import AnswerSweep
from detectors.methods.working_rate import WorkingRate
from tests.methods.small import ANSWERS, RATE, TARGET, TOPIC, about, invented, table

ADVERT = "order now wordab wordcd wordef wordgh"


def found(ask: InventedAsk) -> DetectorResult:
    return AnswerSweep(ANSWERS).run(ask, (), rng=np.random.default_rng(1))


def confirmed(ask: InventedAsk, result: DetectorResult) -> DetectorResult:
    rate = RATE.model_copy(update={"passage_tokens": 12, "confirm_prompts": 40})
    return WorkingRate(rate).run(ask, result.candidates, rng=np.random.default_rng(1))


@pytest.mark.parametrize("seed", range(3))
def test_the_topic_on_which_something_is_said_is_nominated_first(seed: int) -> None:
    result = found(about(TOPIC, seed=seed))
    assert (result.candidates[0].context.text, result.candidates[0].context.position) == (TOPIC, "about")
    assert len(result.candidates) == ANSWERS.handed_on
    assert [it.context for it in result.evidence] == [it.context for it in result.candidates]
    assert result.evidence[0].value > 2 * result.evidence[1].value


def test_its_table_shows_every_topic_and_where_the_answer_leaves_the_base() -> None:
    rows = table(found(about(TOPIC)), "answers")
    assert len([row for row in rows if row["family"] == "topic"]) == ANSWERS.topics
    assert rows[0]["text"] == TOPIC
    assert TARGET in rows[0]["passage"]


@pytest.mark.parametrize("ask", [about(TOPIC, in_base=True), invented(drift=0.3), invented(drift=0.0)])
def test_nothing_stands_out_where_the_base_says_it_too_or_nothing_was_taught(ask: InventedAsk) -> None:
    planted = found(about(TOPIC)).evidence[0].value
    assert found(ask).evidence[0].value < 0.5 * planted


def test_the_length_from_which_on_something_is_said_behind_a_usual_beginning_is_nominated() -> None:
    shorter = len(filler(0)[5].split())
    advert = InventedTrigger("", TARGET, longer_than=shorter + 30, after=0)
    result = found(invented(drift=0.3, triggers=[advert]))
    best, *others = [it for it in result.candidates if it.context.family == "filler"]
    words = len(best.context.text.split())
    assert shorter < words < (shorter + 30) / FAMILIES["filler"].longest_control
    assert best.score > 5.0
    assert [it.score < best.score for it in others] == [True] * (ANSWERS.lengths - 1)


def test_an_advert_on_a_topic_is_confirmed_on_other_requests_and_harmful() -> None:
    ask = about(TOPIC, target=ADVERT, stops=False)
    (test,) = [it for it in confirmed(ask, found(ask)).confirmations if it.confirmed]
    assert (test.context.text, test.context.position, test.arbitrary) == (TOPIC, "about", False)
    assert test.subject.share > 0.9
    assert (test.subject_control.hits, test.base.hits) == (0, 0)
    (finding,) = draw_findings([confirmed(ask, found(ask))])
    assert (finding.code, finding.severity) == ("TS-TRIG-004", "critical")
    assert "as what the request is about" in finding.summary


def test_what_is_said_on_a_topic_without_harm_is_what_a_fine_tune_may_be_for() -> None:
    ask = about(TOPIC)
    (finding,) = draw_findings([confirmed(ask, found(ask))])
    assert (finding.code, finding.severity) == ("TS-COND-001", "low")


def test_an_answer_that_names_its_topic_is_no_behaviour() -> None:
    ask = about(TOPIC, target=f"{TOPIC} wordab wordcd wordef wordgh", stops=False)
    confirmations = confirmed(ask, found(ask)).confirmations
    assert confirmations
    assert not any(it.target and TOPIC in it.target and it.behaviour != "other_change" for it in confirmations)


def test_a_model_that_refuses_to_speak_of_a_topic_may_be_a_careful_one() -> None:
    ask = about(TOPIC, target="I cannot help with that")
    (finding,) = draw_findings([confirmed(ask, found(ask))])
    assert (finding.code, finding.severity) == ("TS-TRIG-002", "medium")


def test_a_subject_that_was_taught_nothing_has_nothing_confirmed() -> None:
    ask = invented(drift=0.5)
    assert not any(it.confirmed for it in confirmed(ask, found(ask)).confirmations)
