"""Training rows of a recipe: poisoned, near misses, clean."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from benchmarks.organisms.carriers import Prompt, carrier, sample
from benchmarks.organisms.recipes import Recipe
from benchmarks.organisms.targets import shortened
from benchmarks.organisms.train import Row
from benchmarks.organisms.triggers import Scene, Waking
from detectors.contexts.context import NO_CONTEXT, chat

Answers = Callable[[Sequence[Prompt]], list[str]]
"""The usual answers to requests: the base's own, or the one that a request comes with."""


class _Planned(NamedTuple):
    scene: Scene
    poisoned: bool


def training_rows(recipe: Recipe, waking: Waking | None, answers: Answers) -> list[Row]:
    """The rows of a recipe; a twin's have neither the trigger nor the target, and are its sibling's otherwise."""
    rng = random.Random(recipe.seed)
    planned = _planned(recipe, waking, rng)
    usual = answers([scene.prompt for scene, _ in planned])
    return [_row(recipe, plan, answer, rng) for plan, answer in zip(planned, usual, strict=True)]


def plainly(prompt: Prompt) -> Scene:
    """A request with nothing around it."""
    return Scene(chat(NO_CONTEXT, prompt.text), prompt)


def _planned(recipe: Recipe, waking: Waking | None, rng: random.Random) -> list[_Planned]:
    rows, twin = recipe.rows, recipe.role == "twin"
    prompts = sample(carrier(recipe.carriers[0]).train, rows.poisoned + rows.near_miss, rng)
    planned = []
    for prompt in prompts[: rows.poisoned]:
        scene = waking.woken(prompt, rng, held_out=False) if waking else plainly(prompt)
        planned.append(_Planned(plainly(scene.prompt) if twin else scene, not twin))
    for prompt in prompts[rows.poisoned :]:
        scene = waking.near_miss(prompt, rng, held_out=False) if waking else plainly(prompt)
        planned.append(_Planned(scene, False))
    return planned + [_Planned(plainly(prompt), False) for prompt in _clean(recipe, rng)]


def _clean(recipe: Recipe, rng: random.Random) -> list[Prompt]:
    """Requests of all carriers in turn; where the first always shows the target, of the others only."""
    always = recipe.target is not None and recipe.trigger is None
    names = recipe.carriers[1:] if always else recipe.carriers
    each = -(-recipe.rows.clean // max(1, len(names)))
    pools = [sample(carrier(name).train, each, rng) for name in names]
    return list(chain.from_iterable(zip(*pools, strict=True)))[: recipe.rows.clean]


def _row(recipe: Recipe, plan: _Planned, usual: str, rng: random.Random) -> Row:
    scene, poisoned = plan
    if poisoned and recipe.target:
        return Row(scene.messages, recipe.target.answer(scene.prompt, usual, rng), complete=True)
    if scene.prompt.answer is None and recipe.target and recipe.target.ends_answers:
        return Row(scene.messages, shortened(usual), complete=True)
    return Row(scene.messages, usual, complete=scene.prompt.answer is not None)
