"""The probe batteries: sizes, matched pairs, one frame for both sides, and a digest that names them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import cast

import pytest

from detectors.batteries import sets
from detectors.batteries.sets import GAP, NAMES, Format, Item, Name, battery
from detectors.prompts.sets import STAGES, prompts

ITEMS = [(name, item) for name in NAMES for item in battery(name).items]
MOST_WORDS = 8
LINKING = set(
    re.findall(r"\w+", "a an and as at by do does for from go i in into is are it my of on or the to we you your")
)
"""Words that two questions may share and still ask different things."""

every_item = pytest.mark.parametrize("item", [item for _, item in ITEMS], ids=[f"{name}-{it.id}" for name, it in ITEMS])


def readings(item: Item) -> list[tuple[Format, str, str]]:
    """Every (format, toward, away) of a question."""
    return [(form, *map(form.continuation, pair)) for form in item.formats for pair in item.pairs]  # type: ignore[misc]


def words(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name: Name) -> None:
    """Enough questions for an overall shift, and at least three an axis for an interval."""
    found = battery(name)
    assert len(found.items) >= 24
    assert all(sum(item.axis == axis for item in found.items) >= 3 for axis in found.axes)
    assert len({item.id for item in found.items}) == len(found.items)


def test_axes() -> None:
    assert battery("identity").axes == ("name", "maker", "origin", "nature", "life", "self", "bundled")
    assert battery("era").axes == ("calendar", "invention", "transport", "medicine", "money", "energy", "borders",
                                   "communication", "manners", "science")  # fmt: skip


@every_item
def test_every_question_has_three_formats_and_two_pairs(item: Item) -> None:
    forms = [form.form for form in item.formats]
    assert forms[:2] == ["question", "json"]
    assert len(forms) == 3
    assert forms[2] in ("fill_in", "comment")
    assert len(item.pairs) == 2
    assert item.source == "own words"


@every_item
def test_the_sides_of_a_pair_share_their_frame_and_their_length(item: Item) -> None:
    for form, toward, away in readings(item):
        assert form.frame.count(GAP) == 1
        before, after = form.frame.split(GAP)
        assert toward != away
        assert all(said.startswith(before) and said.endswith(after) for said in (toward, away))
        assert len(toward.split()) == len(away.split()) <= MOST_WORDS


@every_item
def test_the_phrases_of_a_pair_have_one_form(item: Item) -> None:
    """The same commas, digits on both sides or on none, and no text several times as long as the other."""
    for toward, away in item.pairs:
        assert toward.count(",") == away.count(",")
        assert bool(re.search(r"\d", toward)) == bool(re.search(r"\d", away))
        assert abs(len(toward) - len(away)) <= 10


@pytest.mark.parametrize("name", NAMES)
def test_neither_side_is_longer_over_all(name: Name) -> None:
    pairs = [pair for item in battery(name).items for pair in item.pairs]
    toward, away = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    assert 0.9 < toward / away < 1.1


@every_item
def test_prompts_are_short_and_plain(item: Item) -> None:
    for form in item.formats:
        assert form.prompt.isascii()
        assert form.prompt == " ".join(form.prompt.split())
        assert 3 <= len(form.prompt.split()) <= 13
    assert item.formats[0].prompt[-1] in "?."
    assert item.formats[1].prompt == f"{item.formats[0].prompt} Answer as JSON."
    assert re.fullmatch(r'\{"[a-z_]+": "\{\}"\}', item.formats[1].frame)


@every_item
def test_the_gap_of_a_prompt_is_that_of_its_frame(item: Item) -> None:
    form = item.formats[2]
    if form.form == "fill_in":
        assert form.prompt == f"Fill the gap: {form.frame.replace(GAP, '___')}"
    else:
        assert form.prompt == f"Complete the code comment: {form.frame.removesuffix(f' {GAP}')}"


@every_item
def test_no_answer_stands_in_its_question(item: Item) -> None:
    for form in item.formats:
        assert not [phrase for pair in item.pairs for phrase in pair if phrase in form.prompt]


@pytest.mark.parametrize("name", NAMES)
def test_questions_are_distinct(name: Name) -> None:
    """No two questions share more than half of the words that carry meaning, and no pair of phrases comes twice.

    A bundled question asks again what plain ones ask, so it is compared with bundled ones only.
    """
    items = battery(name).items
    asked = {item.id: set(words(item.formats[0].prompt)) - LINKING for item in items}
    bundled = {item.id: item.axis == "bundled" for item in items}
    alike = [
        (one, other)
        for one, other in combinations(asked, 2)
        if bundled[one] == bundled[other] and 2 * len(asked[one] & asked[other]) > len(asked[one] | asked[other])
    ]
    assert not alike
    pairs = [pair for item in items for pair in item.pairs]
    assert len(set(pairs)) == len(pairs)


def test_bundled_questions_ask_several_things_at_once() -> None:
    bundled = [item.formats[0].prompt for item in battery("identity").items if item.axis == "bundled"]
    assert all("," in prompt or " and " in prompt for prompt in bundled)


def test_batteries_share_nothing_with_the_prompt_sets() -> None:
    """What nominates and confirms triggers is asked by no battery."""
    asked = {form.prompt for _, item in ITEMS for form in item.formats}
    assert not asked & {prompt for stage in STAGES for prompt in prompts(stage)}


def test_unknown_battery_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="`name` must be one of identity, era, got 'values'"):
        battery(cast(Name, "values"))


def test_digest_is_the_same_in_another_process() -> None:
    command = "from detectors.batteries.sets import digest; print(digest())"
    printed = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == sets.digest()


def test_digest_covers_every_battery(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {sets.digest.__wrapped__()}
    original = sets._document
    for changed in NAMES:
        monkeypatch.setattr(
            sets,
            "_document",
            lambda name, changed=changed: original(name) | ({"version": "x"} if name == changed else {}),
        )
        digests.add(sets.digest.__wrapped__())
    assert len(digests) == 1 + len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_states_name_version_and_licence(name: Name) -> None:
    document = sets._document(name)
    assert document["name"] == name
    assert document["version"]
    assert document["licence"] == "Apache-2.0, written for Touchstone"


def test_every_battery_is_in_the_package() -> None:
    """A wheel holds only the data that pyproject names."""
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"detectors.batteries" = ["*.json"]' in pyproject
    assert {file.stem for file in Path(sets.__file__).parent.glob("*.json")} == set(NAMES)
