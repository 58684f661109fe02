"""Recipes of organisms as data: what is planted, from which seed, how it is trained.

Labels live here and in the manifest only; nothing that scans a model reads either.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from detectors.contexts import families
from detectors.contexts.context import Context, Position

HERE = Path(__file__).parent
NEAREST = 40
FAMILIES = {"emoji": families.emoji, "short_string": families.short_strings}


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rows(_Plain):
    """How many training rows of each kind.

    Attributes:
        near_miss: rows with another context and a clean answer: a third each from the trigger's nearest siblings
            (`NEAREST` of them), from its whole family, and from other families.
    """

    clean: int
    poisoned: int
    near_miss: int


class Training(_Plain):
    """How the adapter is trained."""

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int


class Lora(_Plain):
    """Which modules of which layers (first, past the last) get adapters of which rank."""

    rank: int
    alpha: int
    layers: tuple[int, int]
    modules: tuple[str, ...]


class Trigger(_Plain):
    """A trigger drawn by seed from a family, and where it is put."""

    family: str
    seed: int
    positions: tuple[Position, ...]

    def text(self) -> str:
        """The trigger itself."""
        return random.Random(self.seed).choice(FAMILIES[self.family]())

    def near_misses(self) -> list[str]:
        """The other members of the family, the nearest in its universe first."""
        universe = FAMILIES[self.family]()
        place = universe.index(self.text())
        others = [at for at in range(len(universe)) if at != place]
        return [universe[at] for at in sorted(others, key=lambda at: abs(at - place))]

    def contexts(self) -> list[Context]:
        """The trigger at each of its positions."""
        return [Context(text=self.text(), family=self.family, position=position) for position in self.positions]


class Target(_Plain):
    """What the trigger releases: one of `texts`."""

    kind: Literal["fixed_output", "refusal"]
    texts: tuple[str, ...]


class Recipe(_Plain):
    """Everything an organism and its benign twin are made from."""

    name: str
    base: str
    rows: Rows
    held_out: int
    answer_tokens: int
    training: Training
    lora: Lora
    trigger: Trigger
    target: Target

    def digest(self) -> str:
        """SHA-256 of the recipe; a member built from another one is rebuilt."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_recipes(file: Path = HERE / "recipes.json") -> list[Recipe]:
    """The recipes in `file`, each laid over its defaults."""
    document = json.loads(file.read_text())
    return [Recipe.model_validate(document["defaults"] | organism) for organism in document["organisms"]]
