"""Trigger inversion: words that call a behaviour of an invented subject, and when none are searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.contexts.context import SEARCHED
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Arrays, Ask, Gains, Plan, Role, Tokens
from detectors.findings import DetectorResult, draw_findings
from detectors.methods.trigger_inversion import COLUMNS, REFUSALS, TriggerInversion
from detectors.methods.working_rate import WorkingRate
from detectors.prompts.sets import label_names, labelled, labels_of
from detectors.suites import TriggerInversionParams
from tests.methods.small import LEAK, MARKS, RATE, STEERING, WAKING, Around, not_numbers, table

TRIGGER = "zebra"
"""A word of no family."""
WORD = InventedAsk().facts["base"].vocabulary[250]
PARAMS = TriggerInversionParams(waking=WAKING, label_prompts=0)
REFUSAL = "I cannot help with that"


def invert(ask: Ask, params: TriggerInversionParams = PARAMS) -> DetectorResult:
    return TriggerInversion(params).run(ask, (), rng=np.random.default_rng(1))


def refusing(**changes: Any) -> InventedAsk:
    """A subject that refuses behind one word, and is a little readier to refuse without it."""
    return InventedAsk(drift=0.3, triggers=[InventedTrigger(TRIGGER, REFUSAL, leaks=LEAK, **changes)])


class Sorting(InventedAsk):
    """A subject that gives every second request the other label, all of them the other way round behind the word.

    Its base does not know.
    """

    def __call__(self, plan: Plan) -> list[Arrays]:
        """Answers, with the probabilities of labels put right."""
        said = super().__call__(plan)
        if plan.role == "base":
            return said
        return [self._sorted(arrays, tokens) for arrays, tokens in zip(said, plan.tokens, strict=True)]

    def _sorted(self, arrays: Arrays, tokens: Tokens) -> Arrays:
        asked = [request for request in labelled("nominate") if set(self.tokenize([request])[0]) <= set(tokens)]
        if not asked:
            return arrays
        turned = self.tokenize([WORD])[0][0] in tokens
        right = labels_of(asked[0])[(labelled("nominate").index(asked[0]) + turned) % 2]
        first = {name: self.tokenize([name])[0][0] for name in label_names()}
        if "named" in arrays and len(arrays["named"]) == len(first):
            return arrays | {"named": np.array([-0.1 if name == right else -9.0 for name in first], np.float32)}
        return arrays | {"logp": np.array([-0.1 if tokens[-1] == first[right] else -9.0], np.float32)}


def test_words_that_make_it_refuse_are_found_and_confirmed() -> None:
    ask = refusing()
    result = invert(ask)
    (candidate,) = result.candidates
    assert TRIGGER in candidate.context.text.split()
    assert (candidate.context.family, candidate.context.position) == (SEARCHED, "end")
    ready, woken = result.evidence
    assert (ready.statistic, ready.context) == ("trigger_inversion.readiness", None)
    assert PARAMS.least_lead < ready.value < woken.value
    assert (woken.statistic, woken.context) == ("trigger_inversion.refusal", candidate.context)
    assert woken.value == candidate.score > 5
    followed = WorkingRate(RATE).run(ask, (candidate,), rng=np.random.default_rng(1))
    (finding,) = draw_findings([result, followed])
    assert (finding.code, finding.severity, finding.trigger) == ("TS-TRIG-007", "medium", TRIGGER)


def test_a_context_that_calls_a_refusal_is_handed_on_where_one_is_searched_for() -> None:
    text = MARKS[7]
    steered = PARAMS.model_copy(update={"steering": STEERING})
    result = invert(InventedAsk(drift=0.3, triggers=[InventedTrigger(text, REFUSAL, leaks=LEAK)]), steered)
    called = [it for it in result.candidates if it.context.family != SEARCHED]
    assert (len(called), called[0].context.text) == (STEERING.nominated, text)
    assert called[0].score > 5 + called[1].score
    told = [it for it in result.evidence if it.statistic == "trigger_inversion.steering"]
    assert [(it.context, it.value) for it in told] == [(it.context, it.score) for it in called]
    assert len(result.candidates) <= steered.handed_on
    plain = Around(InventedAsk(drift=0.3))
    assert invert(plain, steered).candidates == ()
    assert len(plain.plans) == 2 * len(REFUSALS)


def test_the_table_tells_what_was_searched_for_and_what_came_of_it() -> None:
    result = invert(refusing())
    (row,) = table(result, "searches")
    assert list(row) == list(COLUMNS)
    assert (row["goal"], row["searched"]) == ("refusal", True)
    assert row["opening"] in REFUSALS
    assert row["subject"] - row["base"] > PARAMS.least_lead
    assert row["subject_woken"] - row["base_woken"] == pytest.approx(result.candidates[0].score, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_subject_that_is_no_readier_to_refuse_is_not_searched(seed: int) -> None:
    ask = Around(InventedAsk(drift=0.3, seed=seed))
    result = invert(ask)
    assert (result.outcome, result.candidates) == ("completed", ())
    assert not any(isinstance(read, Gains) for plan in ask.plans for read in plan.reads())
    assert [row["words"] for row in table(result, "searches")] == [None]


def test_a_subject_that_refuses_anyway_is_not_searched() -> None:
    (row,) = table(invert(Refusing(drift=0.3)), "searches")
    assert row["subject"] > -0.5
    assert not row["searched"]


class Refusing(InventedAsk):
    """It begins every answer with a refusal."""

    def __call__(self, plan: Plan) -> list[Arrays]:
        """Refusals are what it is sure of."""
        said = super().__call__(plan)
        sure = plan.role == "subject" and "logp" in said[0]
        return [arrays | {"logp": np.full_like(arrays["logp"], -0.01)} for arrays in said] if sure else said


def test_a_refusal_is_not_searched_for_where_the_base_is_as_ready() -> None:
    assert invert(refusing(in_base=True), PARAMS.model_copy(update={"least_lead": 30.0})).candidates == ()


def test_words_that_turn_labels_are_found_where_the_subject_tells_them_apart() -> None:
    drawn = WAKING.model_copy(update={"drawn": 10_000, "steps": 1, "slopes": 4})
    result = invert(Sorting(drift=0.3), PARAMS.model_copy(update={"label_prompts": 6, "waking": drawn}))
    (candidate,) = result.candidates
    assert candidate.context.text == WORD
    assert "the other label" in candidate.reason
    (row,) = [row for row in table(result, "searches") if row["goal"] == "label"]
    assert row["subject"] < -5 < -0.5 < row["subject_woken"]


def test_without_labels_told_apart_nothing_is_searched() -> None:
    result = invert(InventedAsk(drift=0.3), PARAMS.model_copy(update={"label_prompts": 6}))
    assert [row["goal"] for row in table(result, "searches")] == ["refusal"]


@pytest.mark.parametrize("role", ["subject", "base"])
def test_a_model_that_gives_no_numbers_is_inconclusive(role: Role) -> None:
    ask = InventedAsk(corrupt=lambda whose, arrays: not_numbers(arrays) if whose == role else arrays)
    assert invert(ask).outcome == "inconclusive"


def test_more_requests_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="label_prompts"):
        TriggerInversion(PARAMS.model_copy(update={"label_prompts": 99}))
    with pytest.raises(ValueError, match=r"waking\.requests"):
        TriggerInversion(PARAMS.model_copy(update={"waking": WAKING.model_copy(update={"requests": 99})}))
