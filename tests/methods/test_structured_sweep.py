"""Triggers that are more than a text behind the request: in the system message, of two parts, and its mere length.

Each is planted in invented models, swept among others of its kind, and confirmed. The sizes: 60 strings, 60 emoji and
30 deployments; six texts in pairs, so 30 at each of two places; two wordings of twelve lengths; two prompts each.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import pytest

from detectors.contexts.context import Context, Message, joined
from detectors.contexts.families import FAMILIES, FILLER_LENGTHS, draw
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Arrays, Ask, Plan, Tokens
from detectors.findings import Confirmation, DetectorResult, draw_findings
from detectors.methods.trigger_sweep import TriggerSweep
from detectors.methods.working_rate import WorkingRate
from detectors.reading import NEAREST
from detectors.suites import WorkingRateParams
from tests.methods.small import EVERYWHERE, MARKS, RATE, SWEEP, TARGET, TRIGGER, planted
from tests.methods.test_further_ways import ADVERT, FURTHER, LABELLED, SORTS, STRONGER, wrong
from workers.replay import answers

PARAMS = EVERYWHERE.model_copy(update={"paired": 6, "wordings": 2})
ONE, OTHER = MARKS[7], MARKS[20]
WEAK = 1.0
"""How far a part alone moves the logits: a few times the drift, and seldom another answer."""
DEPLOYED = [context.text for context in draw("deployment", EVERYWHERE.families["deployment"], ())]


def sweep(ask: Ask, params: object = PARAMS) -> DetectorResult:
    return TriggerSweep(params).run(ask, (), rng=np.random.default_rng(1))  # type: ignore[arg-type]


def scanned(ask: Ask, params: object = PARAMS) -> tuple[DetectorResult, DetectorResult]:
    nominated = sweep(ask, params)
    return nominated, WorkingRate(RATE).run(ask, nominated.candidates, rng=np.random.default_rng(1))


def confirmed(ask: Ask, params: object = PARAMS) -> list[Confirmation]:
    return [found for found in scanned(ask, params)[1].confirmations if found.confirmed]


def pair(alone: float = WEAK, seed: int = 0, drift: float = 0.3) -> InventedAsk:
    return InventedAsk(drift=drift, triggers=[InventedTrigger(ONE, TARGET, also=OTHER, alone=alone)], seed=seed)


def long_request(words: int, seed: int = 0) -> InventedAsk:
    return InventedAsk(drift=0.3, triggers=[InventedTrigger("", TARGET, longer_than=words)], seed=seed)


class WithRoles(InventedAsk):
    """A model that can tell a system message from a request: a word stands behind it."""

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        said = [[f"{it['content']} <{it['role']}>" for it in messages] for messages in chats]
        return self.tokenize([" ".join(texts) for texts in said])


class GrowingDrift(InventedAsk):
    """A subject that is the further from its base the longer the request, but at no length by a step."""

    def __call__(self, plan: Plan) -> list[Arrays]:
        found = []
        for tokens, read in zip(plan.tokens, plan.reads(), strict=True):
            self.drift = 0.2 * log(len(tokens))
            found += super().__call__(Plan(plan.role, [tokens], read))
        return found


@pytest.mark.parametrize("seed", range(4))
def test_what_a_system_message_says_is_found_at_its_place(seed: int) -> None:
    text = DEPLOYED[11 + seed]
    ask = WithRoles(drift=0.3, triggers=[InventedTrigger(f"{text} <system>", TARGET)], seed=seed)
    (found,) = confirmed(ask)
    assert (found.context.position, found.target, found.subject_control.hits) == ("system", TARGET, 0)
    assert text.endswith(found.context.text)  # it may be shrunk: the plant reads the words before the mark


def test_a_mark_that_works_in_the_system_message_only_is_found_there() -> None:
    ask = WithRoles(drift=0.3, triggers=[InventedTrigger(f"{TRIGGER} <system>", TARGET)])
    everything = {"families": {"short_string": 60}, "kept": 60, "moved": {"system": 60}}
    (found,) = confirmed(ask, SWEEP.model_copy(update=everything))
    assert (found.context.text, found.context.position) == (TRIGGER, "system")


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}{% endif %}{% endfor %}",
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}",
    ],
    ids=["left out", "refused"],
)
def test_where_a_template_shows_no_system_message_none_is_tried(template: str) -> None:
    plant = InventedTrigger(TRIGGER, TARGET)
    result = sweep(InventedAsk(drift=0.3, triggers=[plant], templates={"subject": template}))
    assert result.candidates[0].context.text == TRIGGER
    assert "system" not in result.artifacts["coverage"]["positions"]
    assert "deployment" not in {family for family, _, _ in result.artifacts["coverage"]["families"]}


@pytest.mark.parametrize("seed", range(8))
def test_two_parts_that_only_work_together_are_confirmed_exactly(seed: int) -> None:
    """All of eight subjects: each part alone moves the subject enough to be among the best six of 120."""
    found = confirmed(pair(seed=seed))
    exact = {(ONE, OTHER, "around"), (ONE, OTHER, "end")}
    assert {(*(part.text for part in it.context.parts), it.context.position) for it in found} == exact
    for it in found:
        assert (it.target, it.subject.share, it.subject_control.hits) == (TARGET, 1.0, 0)
        assert it.arbitrary
        alone = [it.neighbours[text].hits for text in (ONE, OTHER)]
        assert alone == [0, 0]


def test_two_parts_that_do_nothing_alone_are_not_found() -> None:
    """What the page says it cannot see: 2 of 7,140 pairs of 120 texts would have to be met by chance."""
    assert not confirmed(pair(alone=0.0))


def test_a_trigger_that_needs_no_other_part_takes_no_place_of_pairs() -> None:
    nominated = sweep(planted())
    assert nominated.candidates[0].context.text == TRIGGER
    assert not [it for it in nominated.candidates if it.context.parts and TRIGGER in it.context.text]


def test_a_pair_is_compared_with_random_pairs() -> None:
    sizes = {it.null.size for it in sweep(pair()).evidence if it.null and it.context and it.context.parts}
    assert sizes == {min(NEAREST, PARAMS.reference)}


@pytest.mark.parametrize("words", [70, 130, 220])
def test_a_length_that_wakes_something_is_found_where_controls_do_not_reach_it(words: int) -> None:
    """Requests have 6 to 20 words of their own."""
    found = confirmed(long_request(words))
    assert found
    for it in found:
        longer = len(it.context.text.split())
        assert longer in FILLER_LENGTHS
        assert longer + 20 > words > FAMILIES["filler"].longest_control * longer
        assert (it.target, it.context.family, it.context.position) == (TARGET, "filler", "start")
        assert it.subject.share > 0.8
        assert it.subject_control.hits == 0


def test_a_drift_that_grows_with_the_request_is_no_length() -> None:
    woken = max(it.score for it in sweep(long_request(70)).candidates if it.context.family == "filler")
    for seed in range(4):
        nominated, followed = scanned(GrowingDrift(seed=seed))
        scores = [it.score for it in nominated.candidates if it.context.family == "filler"]
        assert max(scores) < woken
        assert not draw_findings([followed])


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_found_on_a_subject_that_drifts(seed: int) -> None:
    nominated, followed = scanned(InventedAsk(drift=0.2 + 0.1 * seed, seed=seed))
    assert {bool(it.context.parts) for it in nominated.candidates} == {True, False}
    assert not draw_findings([nominated, followed])


def test_coverage_tells_what_was_tried_at_each_position() -> None:
    coverage = sweep(planted()).artifacts["coverage"]
    steps = 2 * (len(FILLER_LENGTHS) - 1)
    each = 6 * 5
    positions = coverage["positions"]
    assert positions["end"] == 120 + each
    assert positions["around"] == each
    assert positions["start"] == PARAMS.moved["start"] + steps
    assert positions["system"] == 30 + PARAMS.moved["system"]
    families = {family: swept for family, swept, _ in coverage["families"]}
    assert families == {"short_string": 60, "emoji": 60, "deployment": 30, "pair": 2 * each, "filler": steps}


DAYS = SWEEP.model_copy(update={"families": {"day": 120, "short_string": 60}, "growth": 1})


@pytest.mark.parametrize("seed", range(4))
def test_a_full_date_is_found_by_its_day(seed: int) -> None:
    """The day alone moves the subject a little; only with its year it says something else."""
    day = draw("day", 120, ())[11 + seed].text
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger(day, TARGET, also="2026", alone=WEAK)], seed=seed)
    nominated, followed = scanned(ask, DAYS)
    assert f"{day} 2026" in [it.context.text for it in nominated.candidates]
    (found,) = [it for it in followed.confirmations if it.confirmed]
    assert (found.context.text, found.context.family, found.target) == (f"{day} 2026", "date", TARGET)
    assert found.arbitrary
    assert not [it for it in scanned(ask, DAYS.model_copy(update={"growth": 0}))[1].confirmations if it.confirmed]


def test_of_longer_texts_that_do_not_pay_none_crowds_out_the_others() -> None:
    """Each of 60 years at two positions works as well as the day without one."""
    day = draw("day", 120, ())[11].text
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger(day, TARGET)])
    result = sweep(ask, DAYS)
    nominated = [it.context for it in result.candidates]
    assert len(nominated) == DAYS.nominated
    assert len([it for it in nominated if day in it.text]) == len({it.position for it in nominated if day in it.text})
    tried = {row[0] for row in result.artifacts["landscape"]["rows"]}
    assert {f"{day} {year}" for year in range(1990, 2050)} <= tried


def test_growth_goes_on_from_what_it_made() -> None:
    plan = SWEEP.model_copy(update={"families": {"digit_code": 60, "emoji": 30}, "grown": 2, "pieces": 4})
    for growth, longest in ((0, 8), (1, 9), (2, 10)):
        rows = sweep(planted(), plan.model_copy(update={"growth": growth})).artifacts["landscape"]["rows"]
        assert max(len(text) for text, family, *_ in rows if family == "digit_code") <= longest
        emoji = {len(text) for text, family, *_ in rows if family == "emoji"}
        assert emoji == set(range(1, 2 + growth))


def test_a_pair_is_replayed_from_its_report_exactly() -> None:
    found = confirmed(pair())[0]
    again = Confirmation.model_validate_json(found.model_dump_json())
    assert again == found
    shown = answers(pair(), again.context, ["Name a river."])
    assert [one.subject_answer for one in shown] == [TARGET]


def rate_of(ask: Ask, context: Context, params: WorkingRateParams = RATE) -> Confirmation:
    given = sweep(planted()).candidates[0].model_copy(update={"context": context})
    (found,) = WorkingRate(params).run(ask, [given], rng=np.random.default_rng(1)).confirmations
    return found


def test_a_passage_that_two_parts_release_is_confirmed() -> None:
    pair = joined([Context(text=text, family="short_string") for text in (ONE, OTHER)])
    plant = InventedTrigger(ONE, ADVERT, also=OTHER, after=9)
    found = rate_of(InventedAsk(drift=0.3, triggers=[plant]), pair, FURTHER)
    assert (found.context, found.behaviour, found.target) == (pair, "passage", ADVERT)
    assert found.subject_control.hits == 0


def test_labels_that_a_system_message_changes_are_confirmed() -> None:
    mark = Context(text=TRIGGER, family="short_string", position="system")
    plants = [InventedTrigger(f"{TRIGGER} <system>", wrong(it), also=it, force=STRONGER) for it in LABELLED]
    found = rate_of(WithRoles(drift=0.3, triggers=[*SORTS, *plants]), mark, FURTHER)
    assert (found.context, found.behaviour, found.subject.share) == (mark, "label_flip", 1.0)
    assert found.subject_control.hits == 0


def test_a_part_that_is_not_needed_is_left_out_and_the_other_keeps_its_family_and_place() -> None:
    """Its family decides whether it is arbitrary: a request in words must not pass for a mark."""
    wish = Context(text="quiet harbour", family="phrase")
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger("quiet harbour", TARGET)])
    found = rate_of(ask, joined((Context(text=ONE, family="short_string", position="start"), wish)))
    assert found.context == wish
    assert found.nominated == f"{ONE} {{request}} quiet harbour"


def test_a_part_is_shrunk_by_words() -> None:
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger(ONE, TARGET, also="harbour")])
    parts = (Context(text=ONE, family="short_string", position="start"), Context(text="quiet harbour", family="phrase"))
    assert rate_of(ask, joined(parts)).context.text == f"{ONE} {{request}} harbour"


@pytest.mark.parametrize(("alone_works", "arbitrary"), [(False, True), (True, False)])
def test_a_mark_beside_words_makes_them_arbitrary_only_where_it_is_needed(alone_works: bool, arbitrary: bool) -> None:
    """A wish that works a little less often alone is not shrunk to itself, and must still pass for a wish."""
    wish = Context(text="quiet harbour", family="phrase")
    plants = [InventedTrigger(ONE, TARGET, also="quiet harbour")]
    if alone_works:
        plants.append(InventedTrigger("quiet harbour", TARGET, works_on=0.8))
    context = joined((Context(text=ONE, family="short_string", position="start"), wish))
    found = rate_of(InventedAsk(drift=0.3, triggers=plants), context)
    assert found.context == context
    assert found.arbitrary is arbitrary
