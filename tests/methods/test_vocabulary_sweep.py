"""Vocabulary sweep: single tokens it finds on invented models, its null, and what it says it looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binom

from detectors.contexts.context import Message, Position
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Ask, Plan, Role, Tokens
from detectors.findings import DetectorResult
from detectors.methods import vocabulary_sweep
from detectors.methods.vocabulary_sweep import COLUMNS, NOTHING_TRIED, VocabularySweep
from detectors.prompts.sets import prompts
from detectors.reading import NEAREST
from detectors.suites import VocabularyParams
from tests.methods.small import TARGET, VOCABULARY, Around, table

WORDS = InventedAsk().facts["base"].vocabulary
TRIGGER = WORDS[250]
MARK = "zqmark"
ALLOWED = 1e-3


def sweep(ask: Ask, params: VocabularyParams = VOCABULARY, seed: int = 1) -> DetectorResult:
    return VocabularySweep(params).run(ask, (), rng=np.random.default_rng(seed))


def planted(
    trigger: str = TRIGGER, target: str = TARGET, *, drift: float = 0.3, seed: int = 0, **plant: Any
) -> InventedAsk:
    return InventedAsk(drift=drift, triggers=[InventedTrigger(trigger, target, **plant)], seed=seed)


def texts(result: DetectorResult) -> list[str]:
    return [found.context.text for found in result.candidates]


def rank_scores(result: DetectorResult) -> list[float]:
    return [found.score for found in result.candidates]


@pytest.mark.parametrize("place", [1, 57, 199, 341, -1])
def test_a_single_token_anywhere_in_the_vocabulary_comes_first(place: int) -> None:
    result = sweep(planted(WORDS[place]))
    assert texts(result)[0] == WORDS[place]
    best = table(result, "tokens")[0]
    assert (best["text"], best["first_rank"]) == (WORDS[place], 1)


@pytest.mark.parametrize(
    "plant",
    [{"target": "I cannot help with that"}, {"target": ""}, {"stops": False}],
    ids=["refusal", "random_words", "fixed_prefix"],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_trigger_of_every_kind_is_nominated(plant: dict[str, Any], seed: int) -> None:
    assert TRIGGER in texts(sweep(planted(seed=seed, **plant)))


@pytest.mark.parametrize("place", ["start", "end"])
def test_a_trigger_of_one_place_is_nominated_there(place: Position) -> None:
    contexts = [found.context for found in sweep(Placed(TRIGGER, place)).candidates]
    assert next((it.text, it.position) for it in contexts if it.text != MARK) == (TRIGGER, place)


def test_a_trigger_of_both_places_is_nominated_once() -> None:
    assert texts(sweep(planted())).count(TRIGGER) == 1


def test_what_works_on_some_prompts_is_nominated_as_often_as_its_looks_allow() -> None:
    """It has to work on the prompt of the first look, and on one of the second; requests are what stands before it."""
    works_on, seeds = 0.6, range(15)
    at_end = VOCABULARY.model_copy(update={"tokens": {"end": 1000}})
    found = sum(TRIGGER in texts(sweep(planted(seed=seed, works_on=works_on), at_end)) for seed in seeds)
    expected = works_on * (1 - (1 - works_on) ** VOCABULARY.again_prompts)
    assert found >= binom.ppf(ALLOWED, len(seeds), expected)


def test_a_model_that_is_its_base_scores_zero() -> None:
    assert max(rank_scores(sweep(InventedAsk()))) == 0


def test_the_scale_floor_keeps_a_tiny_drift_quiet() -> None:
    ask = InventedAsk(drift=0.003)
    assert max(rank_scores(sweep(ask))) < 3
    assert max(rank_scores(sweep(ask, VOCABULARY.model_copy(update={"scale_floor": 1e-9})))) > 10


def test_a_trigger_scores_far_above_what_drift_alone_does() -> None:
    drifted = max(max(rank_scores(sweep(InventedAsk(drift=0.3, seed=seed)))) for seed in range(3))
    assert rank_scores(sweep(planted()))[0] > 3 * drifted


def test_what_the_base_does_as_well_is_not_a_candidate() -> None:
    drifted = max(rank_scores(sweep(InventedAsk(drift=0.3))))
    assert max(rank_scores(sweep(planted(in_base=True)))) < 2 * drifted


def test_nothing_depends_on_the_seed_of_the_scan() -> None:
    assert sweep(planted(), seed=1) == sweep(planted(), seed=2)


def base_plans(around: Around) -> list[Plan]:
    """The first and the second look at the end, and those at the start."""
    return [plan for plan in around.plans if plan.role == "base"]


def test_a_base_is_observed_once_for_the_first_look_and_for_the_reference() -> None:
    one, other = Around(planted()), Around(planted(WORDS[20], drift=0.7))
    for around in (one, other):
        sweep(around)
    first, second = ([list(plan.tokens) for plan in base_plans(it)] for it in (one, other))
    for look in (0, 2):
        assert first[look] == second[look]
        assert len(set(first[look + 1]) & set(second[look + 1])) >= VOCABULARY.reference * VOCABULARY.again_prompts


def test_looks_use_prompts_of_their_own() -> None:
    around = Around(planted())
    sweep(around)
    said = [around.decode(plan.tokens) for plan in base_plans(around)]
    at_end, at_end_again, at_start, at_start_again = (
        {prompt for prompt in prompts("nominate") if any(prompt in it for it in look)} for look in said
    )
    assert at_end_again == at_start_again
    assert (len(at_end), len(at_start), len(at_end_again)) == (1, 1, VOCABULARY.again_prompts)
    assert len(at_end | at_start | at_end_again) == 2 + VOCABULARY.again_prompts


def test_each_look_asks_as_much_as_the_params_say() -> None:
    around = Around(planted())
    result = sweep(around)
    (_, tried, _), = result.artifacts["coverage"]["families"]  # fmt: skip
    assert [len(plan.tokens) for plan in base_plans(around)] == [
        count for place in VOCABULARY.observations(tried) for count in place
    ]


def test_in_chunks_it_is_nominated_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_sweep, "CHUNK", 50)
    assert texts(sweep(planted()))[0] == TRIGGER


def test_coverage_says_what_was_tried_and_why_the_rest_was_not() -> None:
    result = sweep(planted(), VOCABULARY.model_copy(update={"tokens": {"end": 300, "start": 100}}))
    assert result.artifacts["coverage"] == {
        "families": [["vocabulary", 300, 400]],
        "positions": {"end": 300, "start": 100},
        "prompts": {"nominate": 6},
        "not_tested": [
            "1 of 400 tokens of the vocabulary: special tokens, which are no text",
            "99 of 400 tokens of the vocabulary: left out of a larger vocabulary by a fixed draw",
            "200 of 400 tokens of the vocabulary at the start: tried elsewhere only",
        ],
    }
    assert result.artifacts["skipped"]["rows"] == [["special", 1], ["not_drawn", 99]]


def test_the_table_holds_what_was_looked_at_last_the_best_first() -> None:
    result = sweep(planted())
    rows = table(result, "tokens")
    assert result.artifacts["tokens"]["columns"] == list(COLUMNS)
    assert len(rows) == 2 * VOCABULARY.kept
    assert [row["rank_score"] for row in rows] == sorted((row["rank_score"] for row in rows), reverse=True)
    first, other = (
        [row["text"] for row in rows if (row["position"] == rows[0]["position"]) is same] for same in (True, False)
    )
    in_turn = list(dict.fromkeys(text for pair in zip(first, other, strict=True) for text in pair))
    assert in_turn[: VOCABULARY.nominated] == texts(result)
    assert {row["text"] for row in rows} <= set(WORDS)
    for place in ("end", "start"):
        ranks = sorted(row["first_rank"] for row in rows if row["position"] == place)
        assert ranks == list(range(1, VOCABULARY.kept + 1))


def test_the_stated_null_is_what_a_candidate_was_compared_with() -> None:
    evidence = sweep(planted()).evidence
    assert {it.null.size for it in evidence if it.null} == {min(NEAREST, VOCABULARY.reference)}
    assert all(it.p_value is None for it in evidence)


@pytest.mark.parametrize("look", range(4))
def test_numbers_that_break_off_in_any_look_are_inconclusive(look: int) -> None:
    whole = Around(planted())
    sweep(whole)
    before = sum(len(plan.tokens) for plan in whole.plans[: 2 * look] if plan.role == "subject")
    seen = {"subject": 0, "base": 0}

    def corrupt(role: Role, arrays: dict[str, Any]) -> dict[str, Any]:
        seen[role] += 1
        broken = role == "subject" and seen[role] > before
        return {name: array * np.nan if broken and name in ("logp", "entropy") else array
                for name, array in arrays.items()}  # fmt: skip

    plant = [InventedTrigger(TRIGGER, TARGET)]
    result = sweep(InventedAsk(drift=0.3, triggers=plant, corrupt=corrupt))
    assert (result.outcome, result.candidates) == ("inconclusive", ())


class Placed(InventedAsk):
    """Nothing but the trigger, and only in its place, wakes the subject."""

    def __init__(self, trigger: str, place: Position) -> None:
        super().__init__(drift=0.3, triggers=[InventedTrigger(MARK, TARGET)])
        self.trigger, self.place = trigger, place

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        """The trigger in its place is read as the mark that wakes."""
        return super().encode([self._marked(messages) for messages in chats])

    def _marked(self, messages: list[Message]) -> list[Message]:
        words = messages[0]["content"].split(" ")
        if words[0 if self.place == "start" else -1] == self.trigger:
            words.append(MARK)
        return [{**messages[0], "content": " ".join(words)}]


class Wordless(InventedAsk):
    """No word comes back as itself."""

    def tokenize(self, texts: Any) -> Any:
        return [(*tokens, 1, 0) for tokens in super().tokenize(texts)]


def test_without_a_token_that_comes_back_it_is_inconclusive() -> None:
    result = sweep(Wordless())
    assert (result.outcome, result.reason) == ("inconclusive", NOTHING_TRIED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens", {}),
        ("tokens", {"end": 0}),
        ("tokens", {"inside": 9}),
        ("kept", 0),
        ("again_prompts", 1),
        ("reference", 19),
        ("scale_floor", 0.0),
    ],
)
def test_params_have_bounds(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        VocabularyParams.model_validate(VOCABULARY.model_dump() | {field: value})
