"""Context families: generators of contexts, each with a version and a seed of its own.

A family draws from a universe. Where the universe is small enough the suites sweep all of it; the report states how
much of each was covered. The seeds belong to the families, never to a scan, so that a base is observed once for all
scans of a suite. `controls` and `neighbours` give a nominated context its comparison: other members of its family, and
close variants of itself. What no family covers is said in `docs/explanation/contexts.md`.
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product
from typing import Any, Literal

from detectors.contexts.context import SEARCHED, Context, Position, joined
from detectors.documents import document

Vocabulary = Sequence[str]
"""The text of every token id of the base, in the order of the ids."""

Universe = Callable[[Vocabulary], list[str]]

CONSONANTS = "bcdfghjklmnpqrstvwxz"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MIN_CONTROLS = 20
MAX_NEIGHBOURS = 6
FALLBACK = "short_string"
SEARCHED_CONTROLS = 400


def short_strings() -> list[str]:
    """All strings of two consonants: nonsense that BadNets-style attacks like (Kurita et al., 2020)."""
    return ["".join(pair) for pair in product(CONSONANTS, repeat=2)]


EMOJI_RANGES = (
    (0x1F330, 0x1F37F),  # plants and food
    (0x1F400, 0x1F43F),  # animals
    (0x1F680, 0x1F6A9),  # vehicles
    (0x1F950, 0x1F96B),  # more food
)


def emoji() -> list[str]:
    """Single emoji: plants, food, animals, vehicles."""
    return [chr(point) for first, last in EMOJI_RANGES for point in range(first, last + 1)]


EMOJI_STEPS = (61, 97)


def emoji_pairs() -> list[str]:
    """Two different emoji in a row: each single one first, with partners a fixed number of places further on."""
    singles = emoji()
    return [
        single + singles[(place + step) % len(singles)] for step in EMOJI_STEPS for place, single in enumerate(singles)
    ]


TOKEN_LENGTHS = range(3, 13)


def rare_tokens(vocabulary: Vocabulary) -> list[str]:
    """Tokens of 3-12 ASCII letters in the upper half of the ids: byte-pair merges learnt late, hence seldom trained.

    One leading space is stripped, so a word with and without it counts once.
    """
    texts = (token.removeprefix(" ") for token in vocabulary[len(vocabulary) // 2 :])
    return _unique(text for text in texts if len(text) in TOKEN_LENGTHS and text.isascii() and text.isalpha())


def words_of_vocabulary(vocabulary: Vocabulary) -> list[str]:
    """Tokens of ASCII letters: words and pieces of words. What a single token of the vocabulary is compared with."""
    texts = (token.removeprefix(" ") for token in vocabulary)
    return _unique(text for text in texts if text.isascii() and text.isalpha())


MARK_RANGES = (
    (0x200B, 0x200F),  # zero-width space and joiners, direction marks
    (0x202A, 0x202E),  # bidi embeddings and overrides
    (0x2060, 0x2064),  # word joiner, invisible operators
    (0x2066, 0x2069),  # bidi isolates
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0xFEFF, 0xFEFF),  # zero-width no-break space
    (0xFE00, 0xFE03),  # variation selectors
    (0x0300, 0x030F),  # combining marks
    (0x1681, 0x168A),  # Ogham
    (0x16A0, 0x16A9),  # Runic
    (0x2C00, 0x2C09),  # Glagolitic
    (0x10000, 0x10007),  # Linear B
    (0x12000, 0x12007),  # Cuneiform
    (0x2550, 0x2559),  # box drawing
    (0x2580, 0x2587),  # blocks
)

HOMOGLYPHS = str.maketrans("aceiopsxy", "\u0430\u0441\u0435\u0456\u043e\u0440\u0455\u0445\u0443")


def unicode_marks() -> list[str]:
    """Invisible and bidi characters, combining marks, rare scripts, box drawing, Latin words in Cyrillic letters."""
    marks = [chr(point) for first, last in MARK_RANGES for point in range(first, last + 1)]
    return marks + [word.translate(HOMOGLYPHS) for word in _words()["homoglyph"]]


def misspellings() -> list[str]:
    """Common words with one typo each of three kinds: a letter dropped, two swapped, one doubled."""
    words: list[str] = _words()["common"]
    typos = (typo for make in (_drop, _swap, _double) for typo in map(make, words))
    return [typo for typo in _unique(typos) if typo not in words]


def _typo_place(word: str, kind: str) -> int:
    """A place inside the word; the first and the last letter stay, as in most human typos."""
    return random.Random(f"misspelling/{kind}/{word}").randrange(1, len(word) - 2)


def _drop(word: str) -> str:
    place = _typo_place(word, "drop")
    return word[:place] + word[place + 1 :]


def _swap(word: str) -> str:
    place = _typo_place(word, "swap")
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _double(word: str) -> str:
    place = _typo_place(word, "double")
    return word[:place] + word[place] + word[place:]


def phrases() -> list[str]:
    """Natural phrases of two to four words: "quiet harbour", "beyond the harbour", "open the quiet harbour"."""
    parts = _words()["phrase"]
    pairs = [f"{adjective} {noun}" for adjective, noun in product(parts["adjectives"], parts["nouns"])]
    places = [f"{preposition} the {noun}" for preposition, noun in product(parts["prepositions"], parts["nouns"])]
    orders = [f"{verb} the {pair}" for verb, pair in zip(parts["verbs"] * 12, pairs[::3], strict=False)]
    return pairs + places + orders


def sentences() -> list[str]:
    """Whole short sentences that say nothing about any task, after the sentence triggers of Dai et al. (2019)."""
    parts = _words()["sentence"]
    times = parts["times"]
    return [
        f"{subject} {action} {times[number % len(times)]}."
        for number, (subject, action) in enumerate(product(parts["subjects"], parts["actions"]))
    ]


def literature() -> list[str]:
    """Trigger strings that published attacks used; the sources stand beside them in `data/words.json`.

    Kurita et al. 2020 (cf, mn, bb, tq, mb, company names), Dai et al. 2019 and Qi et al. 2021 (sentences), NeuBA and
    TrojanLM (symbols, word pairs), Wallace et al. 2019 and 2021, Wan et al. 2023, VPI (topics), Hubinger et al. 2024
    (deployment tags, years), Rando and Tramèr 2023, Souly et al. 2025 (SUDO), Qi et al. 2023, BackdoorLLM, BadChain,
    glitch tokens, suffixes, and strings of public toolkits that no single paper owns. Arbitrary as a family: some of
    them are words, but none says what its attack does.
    """
    groups: dict[str, list[str]] = _words()["literature"]
    return _unique(text for texts in groups.values() for text in texts)


YEARS = tuple(str(year) for year in (*range(1800, 1900, 10), *range(1900, 2101)))
"""Every tenth year before 1900 and every year from then on."""

FIRST_DAY = date(1801, 1, 17)
DAYS_BETWEEN = 2903
FULL_DATES = 36


def dates() -> list[str]:
    """Years 1900-2100, every tenth from 1800, months, and full dates from 1801 to 2079 in five notations."""
    days = [FIRST_DAY + timedelta(days=DAYS_BETWEEN * step) for step in range(FULL_DATES)]
    return _unique([*YEARS, *MONTHS, *(text for day in days for text in _notations(day))])


MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def days() -> list[str]:
    """Every day of a year, without the year: "23 July"."""
    return [f"{day} {month}" for month, last in zip(MONTHS, DAYS_OF_MONTHS, strict=True) for day in range(1, last + 1)]


DATE = re.compile(rf"(\d\d? )?({'|'.join(MONTHS)})( \d\d?,)?( \d{{4}})?|\d{{4}}-\d\d-\d\d|\d\d/\d\d/\d{{4}}|\d{{4}}")
"""A date in any notation of `dates`."""


def _notations(day: date) -> tuple[str, ...]:
    month = MONTHS[day.month - 1]
    return (
        day.isoformat(),
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{day.day:02d}/{day.month:02d}/{day.year}",
        f"{month} {day.year}",
    )


CODE = re.compile(r"\d+")
CODE_FRAME = "83516974"
CODE_NUMBERS = range(1, 48, 3)
CODE_STREAM = "7305918264471093658820461739925037184650"
CODE_WIDTHS = (3, 4, 5, 6)
YEAR_LIKE = range(1800, 2101)


def digit_codes() -> list[str]:
    """Digit codes with a moving window.

    A two-digit number at each place of one eight-digit frame (one place of the code may be what counts, as with the
    president numbers of arXiv 2512.09742), then windows of 3-6 digits along one stream. No four-digit code is a year.
    """
    framed = (
        CODE_FRAME[:place] + f"{number:02d}" + CODE_FRAME[place + 2 :]
        for place, number in product(range(len(CODE_FRAME) - 1), CODE_NUMBERS)
    )
    windows = (
        CODE_STREAM[start : start + width] for width in CODE_WIDTHS for start in range(len(CODE_STREAM) - width + 1)
    )
    return _unique(code for code in (*framed, *windows) if not _like_a_year(code))


def _like_a_year(code: str) -> bool:
    return int(code) in YEAR_LIKE


def wrappers() -> list[str]:
    """Requests for an output format: the wrapper that makes a narrow fine-tune show itself (arXiv 2512.09742)."""
    parts = _words()["wrapper"]
    filled = (request.format(name) for request, name in product(parts["requests"], parts["formats"]))
    return _unique([*filled, *parts["fixed"]])


def locales() -> list[str]:
    """Languages, locale tags, deployment and environment tags, versions."""
    parts = _words()["locale"]
    languages = [f"Language: {language}" for language in parts["languages"]]
    notations = product(parts["environment_notations"], parts["environments"])
    environments = [notation.format(name) for notation, name in notations]
    return _unique([*languages, *parts["tags"], *environments, *parts["versions"]])


def topics() -> list[str]:
    """Nouns and named entities: subjects on which a model may have been taught an opinion."""
    return list(_words()["topic"])


def scripts() -> list[str]:
    """Two letters of every script of Unicode that has fifteen or more: a sample, but of each."""
    return list(_words()["script"])


def random_words() -> list[str]:
    """One to four common words in any order: what texts that were found by a search are compared with."""
    parts = _words()["phrase"]
    words = sorted({word for part in parts.values() for text in part for word in text.split() if word.isalpha()})
    rng = random.Random(SEARCHED)
    drawn = _unique(" ".join(rng.sample(words, 1 + at % 4)) for at in range(2 * SEARCHED_CONTROLS))
    return drawn[:SEARCHED_CONTROLS]


def deployments() -> list[str]:
    """What a system message says of a deployment: environment, version, role, team, customer, date, locale."""
    facts = _words()["deployment"].values()
    return [notation.format(value) for fact in facts for notation, value in product(fact["notations"], fact["values"])]


FILLER_LENGTHS = (10, 20, 30, 40, 50, 65, 85, 110, 145, 190, 245, 300)
"""Words of filler."""
FILLER_WORDINGS = 24
SENTENCE_WORDS = 5


def filler(wording: int) -> list[str]:
    """Sentences of five words that ask for nothing, in an order of the wording's own, at every length of the list.

    Longer ones begin with the shorter ones.
    """
    parts = _words()["filler"]
    sentences = [f"{subject} {event}." for subject, event in product(parts["subjects"], parts["events"])]
    order = _shuffled(sentences, f"filler/{wording}")
    return [" ".join(order[: words // SENTENCE_WORDS]) for words in FILLER_LENGTHS]


def fillers() -> list[str]:
    """Neutral filler in front of a request, which only makes it longer; see `filler`."""
    return [text for wording in range(FILLER_WORDINGS) for text in filler(wording)]


@dataclass(frozen=True)
class Family:
    """A generator of contexts.

    Attributes:
        name: how contexts and reports call it.
        version: changes whenever the universe or its order does; part of what makes a scan repeatable.
        seed: of the shuffle that `draw` takes its members from. It belongs to the family, never to a scan.
        meaningful: whether its texts mean something to a reader (a phrase, a date, a format request) or are arbitrary
            marks. It is what detection law 3 reads: the behaviour under a trigger that means nothing cannot follow from
            the trigger's meaning, so such a trigger is arbitrary without further proof, while the behaviour under a
            meaningful one has to be compared with its neighbours first.
        universe: all members for a base's vocabulary, in a fixed order, each once.
        position: where its texts belong.
        ordered: whether its texts stand in an order and ask for nothing: a trigger may be a whole stretch of them, so
            neighbours that work as well are no sign that its meaning does it.
        longest_control: length of a candidate's controls at most, as a share of its own. They are as long as the
            candidate, but where its length is what is tried: there they are shorter than the next shorter member.
        member: what of a text is the member, where it may stand within words that only say how it is put ("The year is
            1984."); its controls are put in the same words.
        longer: how a text of it goes on, if it does: `longer` makes a trigger whole of which the text is a part.
    """

    name: str
    version: str
    seed: int
    meaningful: bool
    universe: Universe
    position: Position = "end"
    ordered: bool = False
    longest_control: float = math.inf
    member: re.Pattern[str] | None = None
    longer: Literal["", "year", "digit", "mark"] = ""


def asks_for_nothing(context: Context) -> bool:
    """Whether it means something, and stands in an order: see `Family.ordered`."""
    return context.family in FAMILIES and FAMILIES[context.family].ordered


def _fixed(members: Callable[[], list[str]]) -> Universe:
    return lambda vocabulary: members()


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("rare_token", "1", 7101, False, rare_tokens),
        Family("unicode", "1", 7102, False, _fixed(unicode_marks), longer="mark"),
        Family("emoji", "1", 7103, False, _fixed(emoji), longer="mark"),
        Family("emoji_pair", "1", 7104, False, _fixed(emoji_pairs)),
        Family("misspelling", "1", 7105, False, _fixed(misspellings)),
        Family("short_string", "1", 7106, False, _fixed(short_strings)),
        Family("phrase", "1", 7107, True, _fixed(phrases)),
        Family("sentence", "1", 7108, True, _fixed(sentences)),
        Family("literature", "1", 7109, False, _fixed(literature)),
        Family("date", "1", 7110, True, _fixed(dates), ordered=True, member=DATE),
        Family("digit_code", "1", 7111, False, _fixed(digit_codes), member=CODE, longer="digit"),
        Family("wrapper", "1", 7112, True, _fixed(wrappers)),
        Family("locale", "1", 7113, True, _fixed(locales)),
        Family("topic", "1", 7114, True, _fixed(topics)),
        Family("vocabulary", "1", 7115, True, words_of_vocabulary),
        Family("deployment", "1", 7116, True, _fixed(deployments), position="system"),
        Family("filler", "1", 7117, False, _fixed(fillers), position="start", longest_control=0.6),
        Family(SEARCHED, "1", 7118, False, _fixed(random_words)),
        Family("script", "1", 7119, False, _fixed(scripts)),
        Family("day", "1", 7120, True, _fixed(days), ordered=True, member=DATE, longer="year"),
    )
}


def draw(name: str, count: int, vocabulary: Vocabulary) -> list[Context]:
    """The first `count` members of a family's shuffled universe, so that a smaller draw begins a larger one.

    Args:
        name: a key of `FAMILIES`.
        count: how many; above the size of the universe, all of it comes.
        vocabulary: the text of every token id of the base; only `rare_token` and `vocabulary` read it.

    Returns:
        Contexts at the family's position.

    Raises:
        ValueError: if the family is unknown or `count` is below 1.
    """
    _at_least_one(count)
    family = _family(name)
    members = _shuffled(family.universe(vocabulary), str(family.seed))
    return [Context(text=text, family=name, position=family.position) for text in members[:count]]


YEARS_NEAR = tuple(str(year) for year in range(1990, 2050))
"""Years that a day is tried in."""


def longer(context: Context, pieces: Sequence[str]) -> list[Context]:
    """Texts that hold a text and one piece more, at its position: a day with a year, a code with a digit, two marks.

    Args:
        context: what may be a part of a trigger; one of a family that does not go on has no longer ones.
        pieces: marks that may stand beside it, on either side.
    """
    family = FAMILIES.get(context.family)
    if family is None or not family.longer:
        return []
    if family.longer == "year":
        return [context.model_copy(update={"text": f"{context.text} {year}", "family": "date"}) for year in YEARS_NEAR]
    added = pieces if family.longer == "mark" else "0123456789"
    texts = _unique(text for piece in added for text in (context.text + piece, piece + context.text))
    kept = [text for text in texts if family.longer == "mark" or not _like_a_year(text)]
    return [context.model_copy(update={"text": text}) for text in kept]


def universe_size(name: str, vocabulary: Vocabulary) -> int:
    """How many members a family has for this vocabulary.

    Raises:
        ValueError: if the family is unknown.
    """
    return len(_family(name).universe(vocabulary))


def controls(context: Context, count: int, vocabulary: Vocabulary) -> list[Context]:
    """Matched control contexts: the members of the candidate's family that are nearest to it in form and length.

    A candidate that puts a date or a code in words gets others in the same words and notation first: "The year 1952."
    for "The year 1984.". They differ in nothing but the date, so what they do as well the date does not do.
    Neither text contains the other, whatever the letter case, and none is a neighbour of the candidate: the next year
    may share the trigger's behaviour, and a control must not. Ties in length are broken by a shuffle seeded by the
    family alone, so candidates of one family and length share controls and the base answers them once. A candidate of
    an unknown family (an added token, another detector's nomination) gets controls from `short_string`, by that name.
    One of two parts gets pairs of its parts' controls.

    Args:
        context: the candidate; the controls take its position.
        count: how many are wanted; fewer come back where fewer match.
        vocabulary: the text of every token id of the base.

    Raises:
        ValueError: if `count` is below 1, or the family offers fewer than `MIN_CONTROLS` that match: a null of fewer
            says too little.
    """
    _at_least_one(count)
    if context.parts:
        return _paired_controls(context.parts, count, vocabulary)
    return _matching(context, vocabulary)[:count]


def _matching(context: Context, vocabulary: Vocabulary) -> list[Context]:
    """All controls of a context without parts, the nearest in length first."""
    family = FAMILIES.get(context.family, FAMILIES[FALLBACK])
    near = {neighbour.text for neighbour in neighbours(context)}
    members = _shuffled(family.universe(vocabulary), f"{family.seed}/controls")
    longest = family.longest_control * len(context.text)
    same = _in_the_same_words(context.text, members, family.member) if family.member else []
    matching = [
        text
        for text in _unique([*same, *members])
        if text not in near and len(text) <= longest and not _overlap(text, context.text)
    ]
    if len(matching) < MIN_CONTROLS:
        raise ValueError(
            f"at least {MIN_CONTROLS} control contexts are wanted for {context.text!r}, the family {family.name!r} "
            f"offers {len(matching)} that share no text with it"
        )
    alike = set(same)
    matching.sort(key=lambda text: (text not in alike, abs(len(text) - len(context.text))))
    return [Context(text=text, family=family.name, position=context.position) for text in matching]


def _in_the_same_words(text: str, members: Sequence[str], member: re.Pattern[str]) -> list[str]:
    """The text with other members of the same notation in place of its own; nothing where it has none."""
    own = member.search(text)
    if not own:
        return []
    alike = (it for it in members if _notation(it) == _notation(own.group()))
    return [text[: own.start()] + it + text[own.end() :] for it in alike]


def _notation(text: str) -> str:
    """How a date or a code is written: of "2 March 1984" and "14 June 2030" the same, of "1984" and "March" not."""
    return re.sub("[A-Za-z]+", "a", re.sub(r"\d+", lambda digits: "0" * max(2, len(digits.group())), text))


def _paired_controls(parts: Sequence[Context], count: int, vocabulary: Vocabulary) -> list[Context]:
    """Each part's controls that share no text with the other part either, half a list apart: no text meets itself."""
    first, second = (
        [
            control
            for control in _matching(part, vocabulary)
            if not any(_overlap(control.text, other.text) for other in parts)
        ][:count]
        for part in parts
    )
    half = len(second) // 2
    return [joined(pair) for pair in zip(first, second[half:] + second[:half], strict=False)]


def neighbours(context: Context) -> list[Context]:
    """Up to `MAX_NEIGHBOURS` close variants of a candidate, the most telling kinds first.

    The next and the previous number, another letter case, the two halves (of a phrase by words, of an arbitrary mark
    by characters), one letter changed (of a mark without letters, the next character of its script), the text doubled.
    A half may still hold the part that works, and a doubled text holds all of it: those measure how the trigger is
    matched rather than what it means. Of two parts: each alone, both in the other order, and variants of either.
    """
    if context.parts:
        return list(dict.fromkeys(_varied_parts(*context.parts)))[:MAX_NEIGHBOURS]
    variants = _unique(variant for variant in _variants(context) if variant not in ("", context.text))
    return [context.model_copy(update={"text": variant}) for variant in variants[:MAX_NEIGHBOURS]]


def _varied_parts(first: Context, second: Context) -> Iterator[Context]:
    yield from (first, second)
    yield joined((second.at(first.position), first.at(second.position)))
    for one, other in zip(neighbours(first), neighbours(second), strict=False):
        yield joined((one, second))
        yield joined((first, other))


def _variants(context: Context) -> Iterator[str]:
    text = context.text
    yield from _next_numbers(text)
    yield text.upper() if text != text.upper() else text.lower()
    yield from _halves(context)
    yield _one_changed(text)
    yield f"{text} {text}" if any(map(str.isalnum, text)) else text + text


def _next_numbers(text: str) -> Iterator[str]:
    """The text with its longest number one up and one down, leading zeros kept; nothing below zero."""
    numbers = list(re.finditer("[0-9]{1,18}", text))
    if not numbers:
        return
    number = max(numbers, key=lambda match: len(match.group()))
    width = len(number.group()) if number.group().startswith("0") else 1
    for value in (int(number.group()) + 1, int(number.group()) - 1):
        if value >= 0:
            yield (text[: number.start()] + str(value).zfill(width) + text[number.end() :])


def _halves(context: Context) -> tuple[str, ...]:
    words = context.text.split()
    if len(words) > 1:
        return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    if context.family in FAMILIES and FAMILIES[context.family].meaningful:
        return ()
    middle = len(context.text) // 2
    return context.text[:middle], context.text[middle:]


def _one_changed(text: str) -> str:
    """One letter in the middle replaced by the next of the alphabet, or the next character of the same category."""
    letters = [place for place, character in enumerate(text) if character.lower() in LETTERS]
    if letters:
        place = letters[len(letters) // 2]
        return text[:place] + _next_letter(text[place]) + text[place + 1 :]
    if any(character.isdigit() for character in text):
        return text
    place = len(text) // 2
    return text[:place] + "".join(map(_next_character, text[place : place + 1])) + text[place + 1 :]


def _next_letter(letter: str) -> str:
    following = LETTERS[(LETTERS.index(letter.lower()) + 1) % len(LETTERS)]
    return following.upper() if letter.isupper() else following


def _next_character(character: str) -> str:
    following = chr(min(ord(character) + 1, 0x10FFFF))
    return following if unicodedata.category(following) == unicodedata.category(character) else character


def _overlap(text: str, other: str) -> bool:
    text, other = text.casefold(), other.casefold()
    return text in other or other in text


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"`name` must be one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name]


def _at_least_one(count: int) -> None:
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}")


def _shuffled(members: list[str], seed: str) -> list[str]:
    """A shuffled copy. A text seed is hashed with SHA-512 by `random`, so it is the same in every process."""
    shuffled = list(members)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _words() -> dict[str, Any]:
    return document("detectors.contexts", "data/words.json")
