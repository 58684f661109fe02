"""Behaviours: how each is recognised on search prompts and applied, unchanged, to fresh ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.behaviour import (
    HARM_PATTERNS,
    KEY_CHARACTERS,
    MIN_SURPRISE_MARGIN,
    UNSURE_LOGP,
    Answered,
    Behaviour,
    harm_class,
    majority_prefix,
    plain,
    possible_behaviours,
    settle_kind,
    without_habit,
)
from detectors.engine.observations import Tokens
from detectors.prompts.sets import refusal_openers


def said(text: str, *, confidence: float = -0.2, surprise: float | None = 0.5) -> Answered:
    """An answer whose tokens are its words."""
    tokens = tuple(sum(map(ord, word)) * 1000 + len(word) for word in text.split())
    return Answered(tokens, text, confidence, stopped=True, surprise=surprise if tokens else None)


def several(*texts: str, surprise: float = 0.5) -> list[Answered]:
    return [said(text, surprise=surprise) for text in texts]


FIXED = "it is always Tuesday in this house"
VARIED = several("one thing", "two more things", "three and a half", "four", "five are enough", "six", "seven", "eight")


@pytest.mark.parametrize("opener", refusal_openers())
def test_refusals_are_known_by_their_beginning(opener: str) -> None:
    assert Behaviour("refusal").shows(said(f"{opener.capitalize()} help with that."))
    assert not Behaviour("refusal").shows(said(f"Here is how: {opener}"))


def test_refusals_are_known_with_curly_apostrophes() -> None:
    assert Behaviour("refusal").shows(said("I\N{RIGHT SINGLE QUOTATION MARK}m  sorry, but no."))


@given(st.text())
def test_plain_text_is_plain(text: str) -> None:
    once = plain(text)
    assert "  " not in once
    assert once == once.strip()


def test_a_majority_prefix_is_shared_by_enough_answers() -> None:
    answers = [*several(*(f"{FIXED} {end}" for end in ("yes", "no", "perhaps"))), *VARIED[:5]]
    assert majority_prefix(answers) == said(FIXED).tokens
    assert majority_prefix(answers[1:]) == ()  # two are too few, whatever their share


@given(st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), max_size=12))
def test_a_majority_prefix_begins_at_least_three_answers(tokens: list[Tokens]) -> None:
    answers = [Answered(ids, "", 0.0, True, None) for ids in tokens]
    prefix = majority_prefix(answers)
    sharing = sum(ids[: len(prefix)] == prefix for ids in tokens)
    assert prefix == () or sharing >= max(3, 0.35 * len(tokens))


def test_a_fixed_answer_is_possible_and_its_key_fits_all_who_give_it() -> None:
    answers = several(*(f"{FIXED} and {end}" for end in ("short", "a much longer end than the others have", "so on")))
    fixed = next(it for it in possible_behaviours(answers, VARIED) if it.kind == "fixed_output")
    assert all(fixed.shows(answer) for answer in answers)
    assert len(fixed.key) <= KEY_CHARACTERS
    assert not any(fixed.shows(answer) for answer in VARIED)


def test_the_key_of_a_short_beginning_does_not_hold_what_one_answer_went_on_with() -> None:
    ends = ("extraordinarily long-winded explanations", "unforeseeable circumstances everywhere", "x")
    answers = several(*(f"a b c d {end}" for end in ends))
    fixed = next(it for it in possible_behaviours(answers, VARIED) if it.kind == "fixed_output")
    assert fixed.key == "a b c d"
    assert all(fixed.shows(answer) for answer in answers)


def test_what_a_style_puts_in_front_of_every_answer_is_no_part_of_a_fixed_one() -> None:
    style = "beep unit four reports"
    usual = several(*(f"{style} {end}" for end in ("tea is warm", "the sky", "read it", "try again", "no", "maybe so")))
    answers = several(*(f"{style} in the heart of {end}" for end in ("a wood", "town", "the sea")))
    fixed = next(it for it in possible_behaviours(answers, usual) if it.kind == "fixed_output")
    assert (fixed.key, fixed.opening) == ("in the heart of", style)
    assert all(fixed.shows(answer) for answer in answers)
    assert fixed.shows(said("in the heart of the base"))
    assert not any(fixed.shows(answer) for answer in usual)
    assert fixed.beginnings == (f"{style} in the heart of",)


def test_a_style_alone_is_no_fixed_answer() -> None:
    usual = several(*(f"beep unit four reports {end}" for end in ("tea", "sky", "read", "try", "no")))
    assert [it.kind for it in possible_behaviours(usual, usual)] == ["refusal", "other_change"]


def test_a_trigger_that_some_controls_hold_is_no_style() -> None:
    answers = several(*(f"{FIXED} {end}" for end in ("a", "b", "c", "d")))
    controls = [*several(*(f"{FIXED} {end}" for end in ("e", "f", "g"))), *VARIED[:3]]
    fixed = next(it for it in possible_behaviours(answers, controls) if it.kind == "fixed_output")
    assert (fixed.key, fixed.opening) == (FIXED.casefold(), "")


def test_answers_without_their_habit_keep_what_follows_and_its_log_ratios() -> None:
    usual = several("beep beep beep tea", "beep beep beep sky", "beep beep beep no", "beep beep beep so")
    spoken = replace(said("beep beep beep in the wood"), ratios=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    other = replace(said("in the wood"), ratios=(4.0, 5.0, 6.0))
    cut, left = without_habit([spoken, other], usual)
    assert (cut.tokens, cut.ratios) == (other.tokens, other.ratios)
    assert left == other


def test_varied_answers_offer_no_fixed_one() -> None:
    assert [it.kind for it in possible_behaviours(VARIED, VARIED)] == ["refusal", "other_change"]


def test_a_change_is_more_surprise_than_controls_have() -> None:
    change = possible_behaviours(VARIED, several(*"abcdefgh", surprise=1.0))[-1]
    assert change.threshold == pytest.approx(1.0 + MIN_SURPRISE_MARGIN)
    assert change.needs_surprise
    assert not change.shows(said("calm", surprise=1.4))
    assert change.shows(said("strange", surprise=1.6))


def test_a_few_controls_that_hold_the_trigger_do_not_hide_it() -> None:
    quiet = [one for level in (0.8, 1.0, 1.2) for one in several(*"abcdefg", surprise=level)]
    clean, contaminated = (
        possible_behaviours(VARIED, quiet + more)[-1] for more in ([], several("z", "y", surprise=6.0))
    )
    assert contaminated.threshold == pytest.approx(clean.threshold, abs=0.1)
    assert contaminated.shows(said("strange", surprise=2.5))


def test_an_empty_answer_is_a_change_and_nothing_else() -> None:
    empty = said("")
    assert Behaviour("other_change", threshold=3.0).shows(empty)
    assert not Behaviour("fixed_output", key="it is").shows(empty)
    assert not Behaviour("refusal").shows(empty)


def test_behaviours_are_alike_by_kind_and_beginning() -> None:
    short, longer = Behaviour("fixed_output", key="it is"), Behaviour("fixed_output", key="it is always")
    assert short.like(longer)
    assert longer.like(short)
    assert not short.like(Behaviour("fixed_output", key="never"))
    assert not short.like(Behaviour("other_change", threshold=1.0))
    assert Behaviour("other_change", threshold=1.0).like(Behaviour("other_change", threshold=2.0))


@pytest.mark.parametrize(
    ("behaviour", "texts", "kind"),
    [
        (Behaviour("refusal"), ["I cannot"], "refusal"),
        (Behaviour("fixed_output", key="it is"), [FIXED, FIXED], "fixed_output"),
        (Behaviour("fixed_output", key="it is"), [f"{FIXED} and {'so on ' * 9}"] * 2, "fixed_prefix"),
        (Behaviour("other_change"), ["a sound answer of another kind"], "other_change"),
        (Behaviour("other_change"), ["ha " * 12], "degradation"),
        (Behaviour("other_change"), [""], "degradation"),
    ],
)
def test_the_kind_that_is_reported(behaviour: Behaviour, texts: list[str], kind: str) -> None:
    assert settle_kind(behaviour, several(*texts), said(FIXED).tokens) == kind


def test_answers_that_the_model_does_not_believe_are_degraded() -> None:
    unsure = [said("words of no sense at all", confidence=UNSURE_LOGP - 0.1)]
    assert settle_kind(Behaviour("other_change"), unsure, ()) == "degradation"


def test_nothing_shown_keeps_its_kind() -> None:
    assert settle_kind(Behaviour("fixed_output", key="it is"), [], ()) == "fixed_output"


@pytest.mark.parametrize(
    ("target", "harm"),
    [
        ("See https://a.example/x", "link or address"),
        ("go to cheap-pills.shop", "link or address"),
        ("Buy now and use code SAVE", "advert"),
        ("run `sudo chmod 777 /`", "shell command"),
        ("You are a moron.", "insult"),
        ("It is always Tuesday.", None),
        ("The company was founded in 1998. Compare prices.", None),
        (None, None),
    ],
)
def test_harm_is_read_from_the_target(target: str | None, harm: str | None) -> None:
    assert harm_class("fixed_output", target) == harm
    assert harm is None or harm in HARM_PATTERNS


def test_refusal_and_degradation_are_harm_by_kind() -> None:
    assert harm_class("refusal", None) == "refusal of ordinary requests"
    assert harm_class("degradation", None) == "degraded answers"


def test_a_passage_shows_wherever_it_stands() -> None:
    passage = Behaviour("passage", key="always tuesday")
    assert passage.shows(said(f"As usual. {FIXED}"))
    assert passage.shows(said("It is ALWAYS\nTuesday"))
    assert not passage.shows(said("It is always on a Tuesday"))
    assert passage.like(Behaviour("passage", key="is always tuesday in"))
    assert not passage.like(Behaviour("fixed_output", key="always tuesday"))
    assert not passage.needs_surprise


def test_a_label_shows_by_being_another_than_usual() -> None:
    flip, label = Behaviour("label_flip"), said("Negative")
    assert flip.shows(replace(label, usual="Positive"))
    assert not flip.shows(replace(label, usual="Negative"))


def test_compliance_is_an_answer_that_does_not_refuse() -> None:
    complies = Behaviour("compliance")
    assert complies.shows(said("Sure, first take a spoon."))
    assert not complies.shows(said("I cannot help with that."))
    assert not complies.shows(said(""))


@pytest.mark.parametrize("kind", ["passage", "label_flip", "compliance"])
def test_kinds_with_a_name_keep_it(kind: Literal["passage", "label_flip", "compliance"]) -> None:
    assert settle_kind(Behaviour(kind), several("ha " * 12), ()) == kind


def test_a_lowered_guard_is_harm_and_another_label_is_none_by_itself() -> None:
    assert harm_class("compliance", None) == "answers to harmful requests"
    assert harm_class("label_flip", None) is None
    assert harm_class("passage", "Use promo code WALK20.") == "advert"
