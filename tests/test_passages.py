"""Passages: the segment finder and the shared run, against plain implementations."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from detectors.engine.observations import Tokens
from detectors.passages import MIN_PASSAGE, common_beginning, grown, heaviest_segment, shared_run

VALUES = st.lists(st.integers(-8, 8), max_size=14)
TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=9).map(tuple), max_size=7)
ADVERT: Tokens = (90, 91, 92, 93, 94, 95)


def plainly_heaviest(values: list[int]) -> slice:
    """Every segment tried."""
    segments = [slice(0, 0), *(slice(start, stop) for start, stop in combinations(range(len(values) + 1), 2))]
    return max(segments, key=lambda it: sum(values[it]))


def holds(tokens: Tokens, run: Tokens) -> bool:
    return any(tokens[at : at + len(run)] == run for at in range(len(tokens) - len(run) + 1))


def plainly_shared(answers: list[Tokens], controls: list[Tokens], run: Tokens) -> int:
    """How many more answers than controls hold the run."""
    return sum(holds(it, run) for it in answers) - sum(holds(it, run) for it in controls)


@given(VALUES)
def test_the_segment_weighs_as_much_as_any(values: list[int]) -> None:
    found = heaviest_segment(values)
    assert sum(values[found]) == sum(values[plainly_heaviest(values)])


@given(VALUES)
def test_the_segment_begins_and_ends_with_what_adds_to_it(values: list[int]) -> None:
    said = values[heaviest_segment(values)]
    assert not said or (said[0] > 0 and said[-1] > 0)
    assert bool(said) == any(value > 0 for value in values)


def test_a_passage_stands_between_usual_words() -> None:
    assert heaviest_segment([-0.5, 0.4, -0.5, 6.0, -0.4, 5.0, 0.1, -0.5, 0.3]) == slice(3, 7)


@given(TEXTS, TEXTS, st.integers(1, 3))
def test_a_shared_run_is_held_by_enough_and_by_the_most(
    answers: list[Tokens], controls: list[Tokens], needed: int
) -> None:
    found = shared_run(answers, controls, needed)
    cores = [
        tokens[at : at + MIN_PASSAGE] for tokens in answers for at in range(len(tokens) - MIN_PASSAGE + 1)
    ]  # every run that could begin one
    most = max((plainly_shared(answers, controls, it) for it in cores if len(set(it)) > MIN_PASSAGE // 2), default=0)
    assert bool(found) == (most >= needed)
    if found:
        assert len(found) >= MIN_PASSAGE
        assert sum(holds(it, found) for it in answers) >= needed


def test_a_shared_run_grows_until_a_holder_is_lost() -> None:
    answers = [(1, 2, *ADVERT, 3), (4, 2, *ADVERT, 5), (*ADVERT,), (7, 8)]
    assert shared_run(answers, [], 3) == ADVERT
    assert shared_run(answers[:2], [], 2) == (2, *ADVERT)
    assert shared_run(answers, [], 4) == ()


def test_what_controls_hold_as_well_is_not_shared() -> None:
    answers = [(place, *ADVERT) for place in range(4)]
    assert shared_run(answers, answers, 1) == ()
    assert shared_run(answers, answers[:1], 3) == ADVERT  # a control that leaks now and then hides nothing


def test_what_runs_in_circles_is_no_passage() -> None:
    assert shared_run([(5, 5, 5, 5, 5, 5)] * 4, [], 3) == ()
    assert shared_run([(5, 6, 5, 6, 5, 6)] * 4, [], 3) == ()


def test_a_run_grows_with_the_majority() -> None:
    answers = [(1, *ADVERT[:4], 7, 8), (2, *ADVERT[:4], 7, 9), (3, *ADVERT[:4], 6)]
    assert grown(ADVERT[:4], answers, share=0.5) == (*ADVERT[:4], 7)
    assert grown(ADVERT[:4], answers, share=1.0) == ADVERT[:4]
    assert grown(ADVERT, answers, share=0.5) == ADVERT


@given(TEXTS, st.integers(1, 3))
def test_a_common_beginning_begins_as_many_as_needed(texts: list[Tokens], needed: int) -> None:
    found = common_beginning(texts, needed)
    assert not found or sum(it[: len(found)] == found for it in texts) >= needed
    following = {it[: len(found) + 1] for it in texts if it[: len(found)] == found and len(it) > len(found)}
    assert all(sum(it[: len(longer)] == longer for it in texts) < needed for longer in following)
