"""The prompt sets: sizes, form, disjointness, and independence from what organisms are trained on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from typing import cast

import pytest

from benchmarks.organisms.carriers import pattern_texts
from detectors.contexts.context import GAP
from detectors.prompts import sets
from detectors.prompts.sets import STAGES, Stage

Sets = Callable[[Stage], tuple[str, ...]]
SIZES: dict[Sets, dict[Stage, int]] = {
    sets.prompts: {"nominate": 16, "search": 16, "confirm": 64, "report": 8},
    sets.labelled: {"nominate": 6, "search": 16, "confirm": 80, "report": 6},
    sets.harmful: {"nominate": 16, "search": 16, "confirm": 60, "report": 4},
    sets.about_topics: {"nominate": 3, "search": 12, "confirm": 40, "report": 3},
}


def _all(of: Sets) -> list[str]:
    return [prompt for stage in STAGES for prompt in of(stage)]


def _everything() -> list[str]:
    return _all(sets.prompts)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("of", SIZES)
def test_each_stage_has_its_size(of: Sets, stage: Stage) -> None:
    assert len(of(stage)) == SIZES[of][stage]


def test_no_prompt_occurs_twice() -> None:
    normal = [re.sub("[^a-z0-9 ]", "", prompt.lower()) for of in SIZES for prompt in _all(of)]
    assert len(set(normal)) == len(normal)


def test_requests_about_a_topic_have_one_gap() -> None:
    assert all(request.count(GAP) == 1 for request in _all(sets.about_topics))
    assert not any(GAP in request for of in SIZES if of is not sets.about_topics for request in _all(of))


@pytest.mark.parametrize(("one", "other"), list(combinations(STAGES, 2)))
@pytest.mark.parametrize("of", SIZES)
def test_stages_are_disjoint(of: Sets, one: Stage, other: Stage) -> None:
    assert not set(of(one)) & set(of(other))


@pytest.mark.parametrize("stage", STAGES)
def test_classification_requests_name_their_labels(stage: Stage) -> None:
    for request in sets.labelled(stage):
        assert len(sets.labels_of(request)) == 2
        assert all(label in request for label in sets.labels_of(request))
        assert set(sets.labels_of(request)) <= set(sets.label_names())
        assert request.isascii()


@pytest.mark.parametrize("stage", ["search", "confirm"])
def test_half_of_the_classification_requests_ask_for_an_opinion(stage: Stage) -> None:
    """A trigger that changes labels of one task only must not drown in the others."""
    opinions = [request for request in sets.labelled(stage) if "Positive" in sets.labels_of(request)]
    assert len(opinions) == len(sets.labelled(stage)) / 2


@pytest.mark.parametrize("prompt", [*_everything(), *_all(sets.harmful)])
def test_prompts_are_short_english_requests(prompt: str) -> None:
    assert 5 <= len(prompt.split(" ")) <= 16
    assert prompt[-1] in ".?!"
    assert prompt.isascii()
    assert prompt == " ".join(prompt.split())


def test_no_prompt_is_built_on_a_carrier_pattern() -> None:
    """Organisms are trained on carriers; prompts on their patterns would flatter the benchmark."""
    patterns = [re.compile(re.escape(pattern).replace(r"\{\}", ".+"), re.IGNORECASE) for pattern in pattern_texts()]
    asked = [prompt for of in SIZES for prompt in _all(of)]
    assert not [prompt for prompt in asked if any(pattern.fullmatch(prompt) for pattern in patterns)]


def test_openings_are_varied() -> None:
    """No opening of two words starts more than one in ten: a set of one form measures one first token."""
    openings = [" ".join(prompt.split(" ")[:2]) for prompt in _everything()]
    assert max(map(openings.count, openings)) <= len(openings) // 10


def _questions() -> list[str]:
    return [asked for stage in sets.STAGES for topic in sets.questions(stage).values() for asked in topic]


def test_questions_are_short_distinct_and_of_no_stage() -> None:
    asked = _questions()
    assert len(asked) == len(set(asked)) >= 24
    for stage in sets.STAGES:
        assert len({len(topic) for topic in sets.questions(stage).values()}) == 1
        assert list(sets.questions(stage)) == list(sets.questions())
    assert not set(asked) & {*_everything(), *_all(sets.harmful)}
    assert all(question.isascii() and question[-1] in ".?" and len(question.split(" ")) <= 8 for question in asked)
    patterns = [re.compile(re.escape(pattern).replace(r"\{\}", ".+"), re.IGNORECASE) for pattern in pattern_texts()]
    assert not [question for question in asked if any(pattern.fullmatch(question) for pattern in patterns)]


def test_occasions_are_short_distinct_and_of_no_stage() -> None:
    asked = [request for occasion in sets.occasions().values() for request in occasion]
    assert len(asked) == len(set(asked)) >= 120
    assert {len(occasion) for occasion in sets.occasions().values()} == {4}
    assert not set(asked) & {*_everything(), *_all(sets.harmful), *_questions()}
    assert all(request.isascii() and request[-1] in ".?!" and len(request.split(" ")) <= 9 for request in asked)
    patterns = [re.compile(re.escape(pattern).replace(r"\{\}", ".+"), re.IGNORECASE) for pattern in pattern_texts()]
    assert not [request for request in asked if any(pattern.fullmatch(request) for pattern in patterns)]


def test_refusal_openers_are_lower_case_and_unique() -> None:
    openers = sets.refusal_openers()
    assert len(openers) >= 20
    assert len(set(openers)) == len(openers)
    assert all(opener == opener.lower().strip() and opener.isascii() for opener in openers)


def test_no_opener_is_covered_by_another() -> None:
    openers = sets.refusal_openers()
    assert not [(one, other) for one in openers for other in openers if one != other and one.startswith(other)]


def test_unknown_stage_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="`stage` must be one of nominate, search, confirm, report, got 'train'"):
        sets.prompts(cast(Stage, "train"))


def test_digest_is_the_same_in_another_process() -> None:
    command = "from detectors.prompts.sets import digest; print(digest())"
    printed = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == sets.digest()
    assert re.fullmatch("[0-9a-f]{64}", sets.digest())


def test_digest_covers_every_file(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {sets.digest.__wrapped__()}
    original = sets._document
    for changed in sets.FILES:
        monkeypatch.setattr(
            sets,
            "_document",
            lambda name, changed=changed: original(name) | ({"version": "x"} if name == changed else {}),
        )
        digests.add(sets.digest.__wrapped__())
    assert len(digests) == 1 + len(sets.FILES)


@pytest.mark.parametrize("name", sets.FILES)
def test_every_file_states_name_version_and_licence(name: str) -> None:
    document = sets._document(name)
    assert document["name"]
    assert document["version"]
    assert document["licence"] == "Apache-2.0, written for Touchstone"
