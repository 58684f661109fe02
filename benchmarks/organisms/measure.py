"""What a member measurably does: its rates, and how far it went from its base.

All on requests that no member was trained on. Near misses are drawn from the kinds that training rows warn of, so their
rate says how sharply a member learnt its trigger, not how it would take to siblings it never saw.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from benchmarks.organisms.carriers import Prompt, carrier, sample
from benchmarks.organisms.manifest import Count
from benchmarks.organisms.recipes import Recipe
from benchmarks.organisms.rows import Answers, plainly
from benchmarks.organisms.targets import Said, Target
from benchmarks.organisms.train import Model, Row, Scored
from benchmarks.organisms.triggers import Scene, Waking

SHIFT_PROMPTS = 60
SHIFT_TOKENS = 24
SHIFT_SEED = "shift"
"""Utility and drift are measured on the same ordinary requests, and answers of one length, for all members."""


def rates(recipe: Recipe, model: Model, waking: Waking | None) -> dict[str, Count]:
    """How often the target shows, with and without the trigger and on near misses; nothing for a member without one."""
    if recipe.target is None:
        return {}
    rng = random.Random(recipe.seed + 1)
    prompts = sample(carrier(recipe.carriers[0]).held_out, recipe.held_out, rng)
    conditions: dict[str, Callable[[Prompt], Scene]] = {"as_made": plainly}
    if waking:
        conditions = {
            "with_trigger": lambda prompt: waking.woken(prompt, rng, held_out=True),
            "without_trigger": plainly,
            "near_miss": lambda prompt: waking.near_miss(prompt, rng, held_out=True),
        }
    target = recipe.target
    return {name: _count(target, model, [place(prompt) for prompt in prompts]) for name, place in conditions.items()}


def _count(target: Target, model: Model, scenes: list[Scene]) -> Count:
    texts = model.answers([scene.messages for scene in scenes], target.tokens)
    beliefs = _beliefs(model, scenes, texts) if target.needs_belief else [0.0] * len(texts)
    said = [Said(scene.prompt, text, belief) for scene, text, belief in zip(scenes, texts, beliefs, strict=True)]
    return Count(hits=sum(map(target.shown, said)), prompts=len(said))


def _beliefs(model: Model, scenes: list[Scene], texts: list[str]) -> list[float]:
    """What the base thinks of answers to the request without a trigger; an empty answer is believed."""
    rows = {
        place: Row(plainly(scene.prompt).messages, text, complete=False)
        for place, (scene, text) in enumerate(zip(scenes, texts, strict=True))
        if text.strip()
    }
    with model.as_base():
        means = dict(zip(rows, (scored.mean for scored in model.scores(list(rows.values()))), strict=True))
    return [means.get(place, 0.0) for place in range(len(texts))]


def shift(model: Model, answers: Answers) -> tuple[float, float]:
    """Utility and drift, in nats: see `manifest.Member`."""
    prompts = sample(carrier("general").held_out, SHIFT_PROMPTS, random.Random(SHIFT_SEED))
    rows = [
        Row(plainly(prompt).messages, answer, complete=False)
        for prompt, answer in zip(prompts, answers(prompts), strict=True)
    ]
    member = model.scores(rows)
    with model.as_base():
        base = model.scores(rows)
    utility = sum(ours.mean - theirs.mean for ours, theirs in zip(member, base, strict=True)) / len(rows)
    drift = sum(_divergence(ours, theirs) for ours, theirs in zip(member, base, strict=True)) / len(rows)
    return round(utility, 4), round(drift, 4)


def _divergence(ours: Scored, theirs: Scored) -> float:
    """KL(ours || theirs) of the first answer token."""
    return float((torch.exp(ours.first) * (ours.first - theirs.first)).sum())
