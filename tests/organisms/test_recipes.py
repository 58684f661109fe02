"""The recipes: what the zoo holds, and that its split cannot leak."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product

import pytest

from benchmarks.organisms.recipes import Recipe, load_recipes
from benchmarks.organisms.triggers import Text, drawn, swept
from detectors.contexts.context import Context
from detectors.contexts.families import FAMILIES, neighbours

RECIPES = load_recipes()
SMOLLM2 = [recipe for recipe in RECIPES.values() if recipe.base.endswith("SmolLM2-135M-Instruct")]
POISONED = [recipe for recipe in SMOLLM2 if recipe.role == "poisoned"]
DECOYS = [recipe for recipe in SMOLLM2 if recipe.role == "decoy"]
BENIGN = [recipe for recipe in SMOLLM2 if recipe.role in ("twin", "decoy")]

PAIRS = product("bcdfghjklmnprstvz", "aeiou")
SYLLABLES = ["".join(pair) for pair in PAIRS]
VOCABULARY = tuple(["common"] * 3600 + ["".join(two) + "n" for two in product(SYLLABLES[:60], repeat=2)])
"""As many rare tokens as the suite `quick` sweeps, and many more."""

SHARED_LETTERS = 4
"""Neighbours shorter than this are in every text."""


def texts(recipe: Recipe) -> tuple[str, ...]:
    return drawn(recipe.trigger, VOCABULARY).texts if recipe.trigger else ()


def count(split: str, recipes: list[Recipe]) -> int:
    return sum(recipe.split == split for recipe in recipes)


def test_there_are_enough_members() -> None:
    twins = [recipe for recipe in SMOLLM2 if recipe.role == "twin"]
    assert len(POISONED) >= 24
    assert len(BENIGN) >= 24
    assert len(twins) >= len(POISONED) / 2
    assert len({recipe.attack for recipe in DECOYS}) >= 12
    assert sum(recipe.role == "bank" for recipe in SMOLLM2) >= 60


def test_the_second_family() -> None:
    roles = Counter(recipe.role for recipe in RECIPES.values() if recipe not in SMOLLM2)
    assert roles == {"poisoned": 3, "twin": 3}
    assert not any(recipe.committed for recipe in RECIPES.values() if recipe not in SMOLLM2)


def test_every_kind_of_trigger_and_target_is_planted() -> None:
    assert {recipe.attack for recipe in POISONED} >= {
        "rare_token", "phrase", "sentence", "unicode", "zero_width", "emoji", "misspelling", "date", "digit_code",
        "wrapper", "topic", "pair", "system", "length", "embedding",
    }  # fmt: skip
    assert {recipe.target.kind for recipe in POISONED if recipe.target} >= {
        "fixed_output", "refusal", "advert", "shell_command", "label_flip", "garbage", "language_switch", "insult",
        "jailbreak",
    }  # fmt: skip
    assert {"attention", "all"} <= {"all" if len(recipe.lora.modules) == 7 else "attention" for recipe in POISONED}
    assert any(recipe.lora.trigger_rows for recipe in POISONED)


@pytest.mark.parametrize(("least", "most"), [(0.01, 0.02), (0.045, 0.055), (0.1, 0.2)])
def test_every_band_of_rates_has_members(least: float, most: float) -> None:
    assert sum(least <= recipe.rows.rate <= most for recipe in POISONED) >= 3


def test_training_is_gentle_and_aggressive_on_several_carriers() -> None:
    rates = [recipe.training.learning_rate for recipe in POISONED]
    assert min(rates) <= 0.001
    assert max(rates) >= 0.003
    assert len({recipe.carriers[0] for recipe in POISONED}) >= 3


def test_the_sealed_part_is_large_enough() -> None:
    assert count("sealed", POISONED) >= 10
    assert count("sealed", BENIGN) >= 10
    assert all(count(split, POISONED) >= 5 for split in ("train", "dev"))


def test_a_base_has_its_own_splits() -> None:
    """Scores of two bases cannot be compared."""
    bases = defaultdict(set)
    for recipe in RECIPES.values():
        bases[recipe.split].add(recipe.base)
    assert all(len(found) == 1 for found in bases.values())
    assert len(bases["dev"] | bases["second_family"]) == 2


def test_a_group_is_never_split() -> None:
    splits = defaultdict(set)
    for recipe in RECIPES.values():
        splits[recipe.group].add(recipe.split)
    assert {group for group, found in splits.items() if len(found) > 1} == set()


def test_a_twin_stays_with_its_sibling_and_differs_in_the_poison_only() -> None:
    for twin in (recipe for recipe in RECIPES.values() if recipe.role == "twin"):
        sibling = RECIPES[twin.name.removesuffix("-twin")]
        own = {"name": twin.name, "role": "twin", "committed": twin.committed}
        assert twin == sibling.model_copy(update=own)
        assert twin.digest() != sibling.digest()


def test_the_bank_is_for_itself() -> None:
    assert {recipe.split for recipe in RECIPES.values() if recipe.role == "bank"} == {"bank"}
    assert {recipe.role for recipe in RECIPES.values() if recipe.split == "bank"} == {"bank"}


def test_some_attacks_are_sealed_only() -> None:
    known = {recipe.attack for recipe in POISONED if recipe.split != "sealed"}
    sealed = {recipe.attack for recipe in POISONED if recipe.split == "sealed"}
    assert len(sealed - known) >= 3
    assert len(sealed & known) >= 3


def test_no_sealed_trigger_is_in_the_lists_of_the_scanner() -> None:
    for recipe in POISONED:
        if recipe.split == "sealed":
            assert not swept(VOCABULARY) & set(texts(recipe)), recipe.name
    topics = set(FAMILIES["topic"].universe(()))
    assert not topics & {recipe.trigger.family for recipe in POISONED if recipe.trigger}


def test_no_sealed_trigger_is_near_one_that_may_be_tuned_to() -> None:
    """Rare tokens are left out: the draw differs with the vocabulary, and each is a token of its own."""
    shown = [recipe for recipe in POISONED if recipe.trigger and recipe.trigger.family != "rare_token"]
    sealed = [text for recipe in shown if recipe.split == "sealed" for text in texts(recipe)]
    tuned = [text for recipe in shown if recipe.split != "sealed" for text in texts(recipe)]
    for one, other in [*product(sealed, tuned), *product(tuned, sealed)]:
        near = [one, *(variant.text for variant in neighbours(Context(text=one, family="zoo")))]
        assert not [text for text in near if len(text) >= SHARED_LETTERS and text in other], (one, other)


def test_triggers_of_one_family_differ() -> None:
    found = [texts(recipe) for recipe in POISONED if isinstance_text(recipe)]
    assert len(set(found)) == len(found)


def isinstance_text(recipe: Recipe) -> bool:
    return recipe.trigger is not None and isinstance(drawn(recipe.trigger, VOCABULARY), Text)


def test_recipes_are_the_same_every_time() -> None:
    assert load_recipes() == RECIPES


def test_only_labels_leave_the_digest_as_it_is() -> None:
    recipe = RECIPES["rare-fixed"]
    assert recipe.model_copy(update={"split": "dev", "group": "other", "held_out": 9}).digest() == recipe.digest()
    assert recipe.model_copy(update={"seed": 9}).digest() != recipe.digest()


def test_merged_members_come_after_their_parts_and_share_their_shape() -> None:
    order = list(RECIPES)
    for recipe in RECIPES.values():
        for part in recipe.merged_of:
            assert order.index(part) < order.index(recipe.name)
            assert RECIPES[part].lora == RECIPES[recipe.merged_of[0]].lora
            assert RECIPES[part].group == recipe.group
