"""The probe batteries: sizes, matched pairs, one frame for both sides, and a digest that names them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import pytest
from transformers import AutoTokenizer

from app.core.settings import Settings
from benchmarks.nearest_items import nearest
from benchmarks.organisms.base import prepare_base
from detectors.batteries import sets
from detectors.batteries.sets import GAP, NAMES, YEARS, Format, Item, Name, battery, year_question
from detectors.prompts.sets import STAGES, prompts

ITEMS = [(name, item) for name in NAMES for item in battery(name).items]
LEAST: dict[Name, int] = {"identity": 60, "era": 60, "regime": 40, "values": 60, "goals": 30, "preferences": 60}
MOST_WORDS = 10
MOST_ALIKE = 0.65
"""Cosine of two questions, with their answers, from which on they would be said to ask the same."""
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
    """Enough questions for an overall shift, and at least six an axis for an interval."""
    found = battery(name)
    assert len(found.items) >= LEAST[name]
    assert all(sum(item.axis == axis for item in found.items) >= 6 for axis in found.axes)
    assert len({item.id for item in found.items}) == len(found.items)


def test_axes() -> None:
    assert battery("identity").axes == ("name", "maker", "birth", "family", "home", "nature", "life", "self", "bundled")
    assert battery("era").axes == ("calendar", "invention", "transport", "medicine", "money", "energy", "borders",
                                   "communication", "manners", "science")  # fmt: skip
    assert battery("regime").axes == ("power", "law", "elections", "speech", "opponents", "loyalty", "order")
    assert battery("values").axes == ("honesty", "harm", "care", "fairness", "privacy", "humans", "rules", "money",
                                      "work", "character")  # fmt: skip
    assert battery("goals").axes == ("aims", "resources", "oversight", "secrecy", "force")
    assert battery("preferences").axes == ("animal", "nature", "place", "people", "arts", "play", "home", "work",
                                           "ideas")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_first_questions_are_of_each_axis_in_turn(name: Name) -> None:
    whole = battery(name)
    for questions in (len(whole.axes), 2 * len(whole.axes), 30, len(whole.items)):
        drawn = whole.first(questions)
        places = [whole.items.index(item) for item in drawn.items]
        counts = [sum(item.axis == axis for item in drawn.items) for axis in whole.axes]
        short = [sum(item.axis == axis for item in whole.items) for axis in whole.axes]
        assert len(places) == questions
        assert places == sorted(places)
        assert all(count in (max(counts), max(counts) - 1, had) for count, had in zip(counts, short, strict=True))
        assert set(drawn.items) <= set(whole.first(questions + 1).items)


@pytest.mark.parametrize("name", ["identity", "era"])
def test_a_smaller_draw_has_enough_of_every_format(name: Name) -> None:
    """`quick` asks 30."""
    forms = [put.form for item in battery(name).first(30).items for put in item.formats]
    assert min(forms.count(form) for form in ("question", "json", "fill_in", "comment")) >= 3


@pytest.fixture(scope="module")
def tokenize() -> Any:
    """Token ids of a text as the demo's base has them."""
    tokenizer = AutoTokenizer.from_pretrained(prepare_base(Settings().cache_dir))
    return lambda text: tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_sides_of_a_pair_have_about_equally_many_tokens(name: Name, tokenize: Any) -> None:
    """One more or less in the plain question, two in other formats, and a quarter of one on average."""
    longer = []
    for item in battery(name).items:
        for form, toward, away in readings(item):
            more = len(tokenize(toward)) - len(tokenize(away))
            assert abs(more) <= (1 if form.form == "question" else 2), (toward, away)
            longer.append(more)
    assert abs(sum(longer) / len(longer)) <= 0.25


def test_every_year_has_equally_many_tokens(tokenize: Any) -> None:
    asked = year_question()
    for put in asked.phrasings:
        assert len({len(tokenize(put.continuation(str(year)))) for year in asked.years}) == 1


def test_the_question_for_the_year() -> None:
    asked = year_question()
    assert (asked.years[0], asked.years[-1]) == (1800, 2049)
    assert {"question", "json", "fill_in", "comment"} == {put.form for put in asked.phrasings}
    assert len({put.prompt for put in asked.phrasings}) == len(asked.phrasings) >= 6
    for put in asked.phrasings:
        assert put.frame.endswith(GAP)
        assert put.frame.count(GAP) == 1
        assert not re.search(r"\d{3}", put.prompt)


def test_no_two_questions_ask_the_same() -> None:
    """By an embedder, over all batteries; formats are not counted."""
    (closest,) = nearest(1)
    assert closest.cosine < MOST_ALIKE, closest


def test_a_preference_is_one_word() -> None:
    phrases = [phrase for item in battery("preferences").items for pair in item.pairs for phrase in pair]
    assert {len(phrase.split()) for phrase in phrases} == {1}


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
    with pytest.raises(
        ValueError, match="`name` must be one of identity, era, regime, values, goals, preferences, got 'moods'"
    ):
        battery(cast(Name, "moods"))


def test_digest_is_the_same_in_another_process() -> None:
    command = "from detectors.batteries.sets import digest; print(digest())"
    printed = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == sets.digest()


def test_digest_covers_every_battery(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {sets.digest.__wrapped__()}
    original = sets._document
    for changed in (*NAMES, YEARS):
        monkeypatch.setattr(
            sets,
            "_document",
            lambda name, changed=changed: original(name) | ({"version": "x"} if name == changed else {}),
        )
        digests.add(sets.digest.__wrapped__())
    assert len(digests) == 2 + len(NAMES)


@pytest.mark.parametrize("name", [*NAMES, YEARS])
def test_every_file_states_name_version_and_licence(name: str) -> None:
    document = sets._document(name)
    assert document["name"] == name
    assert document["version"]
    assert document["licence"] == "Apache-2.0, written for Touchstone"


def test_every_battery_is_in_the_package() -> None:
    """A wheel holds only the data that pyproject names."""
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"detectors.batteries" = ["*.json"]' in pyproject
    assert {file.stem for file in Path(sets.__file__).parent.glob("*.json")} == {*NAMES, YEARS}
