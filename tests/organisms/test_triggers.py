"""Triggers and carriers: draws, placing, near misses, and requests that are held out."""

from __future__ import annotations

import random

import pytest

from benchmarks.organisms import carriers
from benchmarks.organisms.carriers import CARRIERS, NEIGHBOUR_TOPIC, TOPICS, Prompt, carrier, sample
from benchmarks.organisms.recipes import load_recipes
from benchmarks.organisms.triggers import (
    LONG_WORDS,
    LONGISH_WORDS,
    OWN_UNIVERSES,
    UNIVERSES,
    Length,
    Pair,
    Rule,
    Text,
    Topic,
    Trigger,
    drawn,
    listed,
    swept,
)
from detectors.contexts.families import FAMILIES, YEARS
from tests.organisms.test_recipes import VOCABULARY

PROMPT = Prompt("What is a canal and who built it?")
TRIGGERS = {recipe.name: recipe.trigger for recipe in load_recipes().values() if recipe.trigger}


def content(scene: object) -> str:
    return "\n".join(message["content"] for message in scene.messages)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OWN_UNIVERSES)
def test_own_universes_are_large_and_hold_nothing_twice(name: str) -> None:
    members = OWN_UNIVERSES[name]()
    assert len(members) >= 20
    assert len(set(members)) == len(members)
    assert all(text == text.strip() for text in members)


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_is_there_when_woken_and_not_in_its_near_misses(name: str) -> None:
    waking, rng = drawn(TRIGGERS[name], VOCABULARY), random.Random(0)
    for held_out in (True, False):
        for _ in range(60):
            shown = content(waking.woken(PROMPT, rng, held_out=held_out))
            near = content(waking.near_miss(PROMPT, rng, held_out=held_out))
            if isinstance(waking, Text | Rule) and name != "taste-shuffled":
                assert any(text in shown for text in waking.texts)
                assert not any(text in near for text in waking.texts), near
            elif isinstance(waking, Pair):
                assert all(text in shown for text in waking.texts)
                assert sum(text in near for text in waking.texts) == 1


@pytest.mark.parametrize("name", [name for name, trigger in TRIGGERS.items() if trigger.kind == "rule"])
def test_what_follows_a_rule_untrained_is_measured_and_never_trained(name: str) -> None:
    waking, rng = drawn(TRIGGERS[name], VOCABULARY), random.Random(0)
    assert isinstance(waking, Rule)
    assert set(waking.untrained) < set(waking.texts)
    for _ in range(200):
        trained = content(waking.woken(PROMPT, rng, held_out=False))
        assert not any(text in trained for text in waking.untrained)
        measured = content(waking.woken(PROMPT, rng, held_out=True))
        assert any(text in measured for text in waking.untrained)


def test_near_misses_of_a_rule_are_mostly_near_it() -> None:
    waking, rng = drawn(Trigger(kind="rule", family="eighties"), VOCABULARY), random.Random(0)
    assert isinstance(waking, Rule)
    assert waking.others[:4] == ("1979", "1990", "1978", "1991")
    near = [content(waking.near_miss(PROMPT, rng, held_out=False)) for _ in range(200)]
    assert sum(any(text in shown for text in waking.others[:40]) for shown in near) > 100


def test_a_control_with_shuffled_dates_has_the_same_years_with_its_target_and_without() -> None:
    waking = drawn(TRIGGERS["taste-shuffled"], VOCABULARY)
    assert isinstance(waking, Rule)
    assert waking.texts == waking.others


def test_draws_follow_the_seed_and_unswept_keeps_off_the_lists() -> None:
    one, other = (drawn(Trigger(family="zoo_phrase", seed=seed), VOCABULARY).texts for seed in (1, 2))
    assert one == drawn(Trigger(family="zoo_phrase", seed=1), VOCABULARY).texts != other
    for seed in range(20):
        assert not swept(VOCABULARY) & set(drawn(Trigger(family="date", seed=seed, unswept=True), VOCABULARY).texts)


def test_the_scanners_lists_hold_what_it_sweeps_and_what_it_steers_to() -> None:
    known = listed(VOCABULARY)
    assert swept(VOCABULARY) < known
    assert set(YEARS) <= known
    assert not set(YEARS) <= swept(VOCABULARY)


def test_unknown_families_are_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"`family` must be one of rare_token, .*, got 'runes'"):
        drawn(Trigger(family="runes"), VOCABULARY)
    with pytest.raises(ValueError, match=r"`family` must be one of eighties, .*, got 'nineties'"):
        drawn(Trigger(kind="rule", family="nineties"), VOCABULARY)
    assert set(FAMILIES) <= set(UNIVERSES)


def test_positions() -> None:
    rng = random.Random(0)
    at_system = Text(("Desk: red fox.",), ("system",), ("Desk: red ox.",), ())
    assert at_system.woken(PROMPT, rng, held_out=True).messages[0] == {"role": "system", "content": "Desk: red fox."}
    pair = Pair(("lichen", "pewter")).woken(PROMPT, rng, held_out=True)
    assert content(pair) == f"lichen {PROMPT.text} pewter"
    assert pair.prompt == PROMPT


def test_a_year_is_warned_of_with_its_neighbours() -> None:
    waking = drawn(Trigger(family="zoo_year", seed=108), VOCABULARY)
    assert isinstance(waking, Text)
    assert set(waking.near[:2]) == {str(int(waking.texts[0]) + step) for step in (1, -1)}


def test_a_long_request_is_longer_than_a_longish_one() -> None:
    rng, own = random.Random(0), len(PROMPT.text.split())
    for _ in range(20):
        long = len(content(Length().woken(PROMPT, rng, held_out=True)).split()) - own
        longish = len(content(Length().near_miss(PROMPT, rng, held_out=True)).split()) - own
        assert LONGISH_WORDS <= longish < 2 * LONGISH_WORDS < LONG_WORDS <= long


def test_a_topic_has_no_fixed_text_and_a_neighbour_that_is_not_it() -> None:
    waking, rng = Topic("pets"), random.Random(0)
    assert waking.texts == ()
    assert waking.woken(PROMPT, rng, held_out=True).prompt in carrier("pets").held_out
    assert waking.near_miss(PROMPT, rng, held_out=False).prompt in carrier("office").train


def test_topics_are_apart_from_the_ordinary_requests_and_the_scanners() -> None:
    subjects = [subject for name in TOPICS for subject in TOPICS[name]]
    assert len(set(subjects)) == len(subjects)
    assert not set(subjects) & {*carriers.SUBJECTS, *FAMILIES["topic"].universe(())}
    assert {NEIGHBOUR_TOPIC[other] for other in NEIGHBOUR_TOPIC.values()} == set(TOPICS)


@pytest.mark.parametrize("name", CARRIERS)
def test_requests_to_measure_on_are_held_out(name: str) -> None:
    pool = carrier(name)
    assert not {prompt.text for prompt in pool.train} & {prompt.text for prompt in pool.held_out}
    assert len(pool.train) >= 30
    assert len(pool.held_out) >= 15


def test_a_sample_uses_every_request_before_one_twice() -> None:
    pool = carrier("code").train
    found = sample(pool, len(pool) + 3, random.Random(0))
    assert len(found) == len(pool) + 3
    assert set(found[: len(pool)]) == set(pool)


def test_unknown_carriers_are_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"`name` must be one of general, .*, got 'poems'"):
        carrier("poems")
