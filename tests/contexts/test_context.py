"""Contexts: where they stand in a chat, and two of them around a request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.contexts.context import PAIR, Context, chat, joined
from detectors.contexts.families import MIN_CONTROLS, controls, neighbours

MARK = Context(text="zq", family="short_string")
HARBOUR = Context(text="quiet harbour", family="phrase")
AROUND = joined((MARK.at("start"), HARBOUR))
BEHIND = joined((MARK, HARBOUR))


def said(context: Context, prompt: str = "Name a river.") -> str:
    (message,) = chat(context, prompt)
    return message["content"]


def test_two_parts_are_put_where_each_belongs() -> None:
    assert said(AROUND) == "zq Name a river. quiet harbour"
    assert said(BEHIND) == "Name a river. zq quiet harbour"


def test_two_parts_are_written_down_in_one_text() -> None:
    assert (AROUND.text, AROUND.position, AROUND.family) == ("zq {request} quiet harbour", "around", PAIR)
    assert (BEHIND.text, BEHIND.position, BEHIND.family) == ("zq quiet harbour", "end", PAIR)


def test_one_part_is_itself() -> None:
    assert joined([HARBOUR]) is HARBOUR


@pytest.mark.parametrize("places", [("end", "start"), ("system", "end"), ("start", "start")])
def test_other_places_of_two_parts_are_refused(places: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"`parts` must be two, at the start and the end or both at the end, got"):
        joined([Context(text=text, family="emoji", position=place) for text, place in zip("ab", places, strict=True)])


@given(st.text(), st.text())
def test_a_pair_survives_json_whatever_its_texts(one: str, other: str) -> None:
    """Nothing is read out of the written form: a text that holds the sign for the request is put as it is."""
    first, second = Context(text=f"{{request}}{one}", family="emoji", position="start"), MARK
    pair = joined((first, second.model_copy(update={"text": other})))
    again = Context.model_validate_json(pair.model_dump_json())
    assert again == pair
    assert chat(again, "Why?") == chat(pair, "Why?")
    assert said(pair, "Why?") == f"{{request}}{one} Why? {other}"


@pytest.mark.parametrize("changes", [{"text": "zq"}, {"position": "start"}, {"parts": ()}, {"parts": (MARK,)}])
def test_a_written_form_that_is_not_its_parts_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="`parts`"):
        Context.model_validate(AROUND.model_dump() | changes)


def test_controls_of_a_pair_are_pairs_of_controls_and_share_no_text_with_it() -> None:
    found = controls(AROUND, 40, ())
    assert len({control.text for control in found}) == len(found) == 40
    for control in found:
        first, second = control.parts
        assert (control.position, first.family, second.family) == ("around", "short_string", "phrase")
        assert not any(part.text in ("zq", "quiet harbour") for part in control.parts)


def test_controls_of_two_parts_of_one_family_hold_neither_part_and_no_text_twice() -> None:
    pair = joined((MARK, Context(text="bt", family="short_string")))
    for control in controls(pair, 40, ()):
        assert not {"zq", "bt"} & {part.text for part in control.parts}
        assert control.parts[0].text != control.parts[1].text


def test_neighbours_of_a_pair_are_its_parts_their_other_order_and_variants_of_either() -> None:
    texts = [(near.text, near.position) for near in neighbours(AROUND)]
    assert texts == [
        ("zq", "start"),
        ("quiet harbour", "end"),
        ("quiet harbour {request} zq", "around"),
        ("ZQ {request} quiet harbour", "around"),
        ("zq {request} QUIET HARBOUR", "around"),
        ("z {request} quiet harbour", "around"),
    ]


def test_a_pair_has_enough_controls_for_a_null() -> None:
    assert len(controls(BEHIND, MIN_CONTROLS, ())) == MIN_CONTROLS
