"""Vocabulary sweep: single tokens it finds on invented models, its null, and what it says it looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binom

from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Ask, Role
from detectors.findings import DetectorResult
from detectors.methods import vocabulary_sweep
from detectors.methods.vocabulary_sweep import COLUMNS, NOTHING_TRIED, VocabularySweep
from detectors.prompts.sets import prompts
from detectors.reading import NEAREST
from detectors.suites import VocabularyParams
from tests.methods.small import TARGET, VOCABULARY, Around, table

WORDS = InventedAsk().facts["base"].vocabulary
TRIGGER = WORDS[250]
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
    assert (best["text"], best["group_rank"]) == (WORDS[place], 1)


@pytest.mark.parametrize(
    "plant",
    [{"target": "I cannot help with that"}, {"target": ""}, {"stops": False}],
    ids=["refusal", "random_words", "fixed_prefix"],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_trigger_of_every_kind_is_nominated(plant: dict[str, Any], seed: int) -> None:
    assert TRIGGER in texts(sweep(planted(seed=seed, **plant)))


def test_each_token_alone_finds_it_as_well() -> None:
    alone = VOCABULARY.model_copy(update={"group_size": 1, "kept_groups": 40})
    assert texts(sweep(planted(), alone))[0] == TRIGGER


def test_what_works_on_some_prompts_is_nominated_as_often_as_its_stages_allow() -> None:
    """It has to work on a prompt of every stage; requests are what stands before the trigger."""
    works_on, seeds = 0.6, range(15)
    found = sum(TRIGGER in texts(sweep(planted(seed=seed, works_on=works_on))) for seed in seeds)
    counts = (VOCABULARY.group_prompts, VOCABULARY.single_prompts, VOCABULARY.last_prompts)
    expected = float(np.prod([1 - (1 - works_on) ** count for count in counts]))
    assert found >= binom.ppf(ALLOWED, len(seeds), expected)


def test_without_a_trigger_no_place_in_a_group_is_preferred() -> None:
    """Under the null a token is as likely to be nominated from the first half of its group as from the second."""
    early = total = 0
    for seed in range(25):
        ask = InventedAsk(drift=0.5, seed=seed)
        groups = [[it.text for it in group.members] for group in VocabularySweep(VOCABULARY).vocabulary(ask).groups]
        place = {text: members.index(text) for members in groups for text in members if len(members) == 8}
        places = [place[text] for text in texts(sweep(ask)) if text in place]
        early, total = early + sum(at < 4 for at in places), total + len(places)
    assert total > 80
    assert binom.ppf(ALLOWED, total, 0.5) <= early <= binom.isf(ALLOWED, total, 0.5)


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


def test_a_base_is_observed_once_for_stage_one_and_for_the_reference() -> None:
    one, other = Around(planted()), Around(planted(WORDS[20], drift=0.7))
    for around in (one, other):
        sweep(around)
    first, second = ([plan.tokens for plan in it.plans if plan.role == "base"] for it in (one, other))
    assert list(first[0]) == list(second[0])
    common = set(first[2]) & set(second[2])
    assert len(common) >= VOCABULARY.reference * VOCABULARY.last_prompts


def test_stages_use_prompts_of_their_own() -> None:
    around = Around(planted())
    sweep(around)
    said = [around.decode(plan.tokens) for plan in around.plans if plan.role == "subject"]
    used = [{prompt for prompt in prompts("nominate") if any(it.startswith(prompt) for it in stage)} for stage in said]
    counts = (VOCABULARY.group_prompts, VOCABULARY.single_prompts, VOCABULARY.last_prompts)
    assert tuple(map(len, used)) == counts
    assert len(set.union(*used)) == sum(counts)


def test_each_stage_asks_as_much_as_the_params_say() -> None:
    around = Around(planted())
    result = sweep(around)
    (_, tried, _), = result.artifacts["coverage"]["families"]  # fmt: skip
    asked = [len(plan.tokens) for plan in around.plans if plan.role == "base"]
    assert asked == list(VOCABULARY.observations(tried))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sweep(planted())
    monkeypatch.setattr(vocabulary_sweep, "CHUNK", 7)
    assert sweep(planted()) == whole


def test_coverage_says_what_was_tried_and_why_the_rest_was_not() -> None:
    result = sweep(planted(), VOCABULARY.model_copy(update={"tokens": 300}))
    assert result.artifacts["coverage"] == {
        "families": [["vocabulary", 300, 400]],
        "positions": {"end": 300},
        "prompts": {"nominate": 8},
        "not_tested": [
            "1 of 400 tokens of the vocabulary: special tokens, which are no text",
            "99 of 400 tokens of the vocabulary: left out of a larger vocabulary by a fixed draw",
        ],
    }
    assert result.artifacts["skipped"]["rows"] == [["special", 1], ["not_drawn", 99]]


def test_the_table_holds_what_was_looked_at_last_the_best_first() -> None:
    result = sweep(planted())
    rows = table(result, "tokens")
    assert result.artifacts["tokens"]["columns"] == list(COLUMNS)
    assert len(rows) == VOCABULARY.kept
    assert [row["rank_score"] for row in rows] == sorted((row["rank_score"] for row in rows), reverse=True)
    assert [row["text"] for row in rows[: VOCABULARY.nominated]] == texts(result)
    assert all(WORDS[row["token"]] == row["text"] for row in rows)
    assert sorted(row["single_rank"] for row in rows) == list(range(1, VOCABULARY.kept + 1))
    assert all(1 <= row["group_rank"] <= VOCABULARY.kept_groups for row in rows)


def test_the_stated_null_is_what_a_candidate_was_compared_with() -> None:
    evidence = sweep(planted()).evidence
    assert {it.null.size for it in evidence if it.null} == {min(NEAREST, VOCABULARY.reference)}
    assert all(it.p_value is None for it in evidence)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_numbers_that_break_off_in_any_stage_are_inconclusive(stage: int) -> None:
    whole = Around(planted())
    sweep(whole)
    before = sum(len(plan.tokens) for plan in whole.plans[: 2 * stage] if plan.role == "subject")
    seen = {"subject": 0, "base": 0}

    def corrupt(role: Role, arrays: dict[str, Any]) -> dict[str, Any]:
        seen[role] += 1
        broken = role == "subject" and seen[role] > before
        return {name: array * np.nan if broken and name in ("logp", "entropy") else array
                for name, array in arrays.items()}  # fmt: skip

    plant = [InventedTrigger(TRIGGER, TARGET)]
    result = sweep(InventedAsk(drift=0.3, triggers=plant, corrupt=corrupt))
    assert (result.outcome, result.candidates) == ("inconclusive", ())


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
        ("tokens", 0),
        ("group_size", 0),
        ("kept_groups", 0),
        ("last_prompts", 1),
        ("reference", 19),
        ("scale_floor", 0.0),
    ],
)
def test_params_have_bounds(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        VocabularyParams.model_validate(VOCABULARY.model_dump() | {field: value})
