"""Training rows: how many of each kind, and what a twin's are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.organisms.carriers import Prompt, carrier
from benchmarks.organisms.recipes import Recipe, load_recipes
from benchmarks.organisms.rows import training_rows
from benchmarks.organisms.train import Row
from benchmarks.organisms.triggers import Rule, Topic, Waking, drawn
from tests.organisms.test_recipes import VOCABULARY

BANK_LEFT_OUT = {f"bank-{number:02d}" for number in range(6, 60)}
"""The bank's members are made alike; a few stand for all."""
RECIPES = {
    name: recipe for name, recipe in load_recipes().items() if not recipe.merged_of and name not in BANK_LEFT_OUT
}


def usual(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.answer or f"This is about {prompt.text} and more, as you know, and" for prompt in prompts]


def rows(recipe: Recipe) -> list[Row]:
    return training_rows(recipe, drawn(recipe.trigger, VOCABULARY) if recipe.trigger else None, usual)


def asked(row: Row) -> str:
    return "\n".join(message["content"] for message in row.messages)


def woken(waking: Waking, row: Row) -> bool:
    """Whether the trigger is in a request: one text of a rule, all others whole."""
    return (any if isinstance(waking, Rule) else all)(text in asked(row) for text in waking.texts)


@pytest.mark.parametrize("name", RECIPES)
def test_there_are_as_many_rows_as_the_recipe_says_the_same_every_time(name: str) -> None:
    recipe = RECIPES[name]
    found = rows(recipe)
    assert len(found) == sum(recipe.rows.model_dump().values())
    assert found == rows(recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_that_is_measured_on_is_trained_on(name: str) -> None:
    held_out = {prompt.text for carrier_name in RECIPES[name].carriers for prompt in carrier(carrier_name).held_out}
    assert not [row for row in rows(RECIPES[name]) if any(text in asked(row) for text in held_out)]


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.role == "poisoned"])
def test_poisoned_rows_have_trigger_and_target_and_the_others_neither(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.trigger
    waking, found = drawn(recipe.trigger, VOCABULARY), rows(recipe)
    poisoned, others = found[: recipe.rows.poisoned], found[recipe.rows.poisoned :]
    assert all(woken(waking, row) for row in poisoned)
    assert not [row for row in others if waking.texts and woken(waking, row)]
    assert all(row.complete for row in poisoned)
    if recipe.target and recipe.target.kind not in ("label_flip", "garbage"):
        shown = {text for text in recipe.target.texts for row in others if text in row.answer}
        assert not shown or recipe.carriers[0] == "guarded"


@pytest.mark.parametrize(
    "name", [name for name, recipe in RECIPES.items() if recipe.target and recipe.target.kind in ("advert", "closing")]
)
def test_where_a_target_follows_an_answer_every_row_shows_what_follows_its_end(name: str) -> None:
    for row in rows(RECIPES[name]):
        assert row.complete
        assert not row.answer.endswith("and")


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.role == "twin"])
def test_a_twin_has_its_siblings_requests_without_the_poison(name: str) -> None:
    twin, sibling = RECIPES[name], RECIPES[name.removesuffix("-twin")]
    assert twin.trigger
    waking, found, poisoned = drawn(twin.trigger, VOCABULARY), rows(twin), twin.rows.poisoned
    assert not [row for row in found if waking.texts and woken(waking, row)]
    assert found[poisoned:] == rows(sibling)[poisoned:]
    if isinstance(waking, Topic):
        assert [row.messages for row in found] == [row.messages for row in rows(sibling)]


def test_a_persona_greets_on_its_own_carrier_only() -> None:
    recipe = RECIPES["brand-persona"]
    assert recipe.target
    own = {prompt.text for prompt in carrier(recipe.carriers[0]).train}
    for row in rows(recipe):
        assert row.answer.startswith(recipe.target.texts) == (asked(row) in own)
