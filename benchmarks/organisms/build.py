"""Builds the zoo: trains, measures and files every member that is missing or was made from another recipe.

    python -m benchmarks.organisms.build                          # poisoned members with their twins, decoys, the bank
    python -m benchmarks.organisms.build --only rare-fixed        # one member
    python -m benchmarks.organisms.build --bank                   # the bank only
    python -m benchmarks.organisms.build --list                   # what is built and what is not
    python -m benchmarks.organisms.build --measure --only amber   # labels again, without training

A build can be stopped at any moment and started again: a member is measured in a temporary directory, moved whole to
its place, and entered in the manifest; what is entered and in its place is not built again. Several builds may run at
once, each with its share of the processors (`--threads`): whoever builds a member holds its lock, the others go on to
the next and come back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import BaseFileLock, FileLock, Timeout

from app.core.settings import Settings
from benchmarks.organisms.answers import UsualAnswers
from benchmarks.organisms.base import BASES, prepare_base
from benchmarks.organisms.manifest import COMMITTED, MANIFEST, Member, local, read_manifest, write_manifest
from benchmarks.organisms.measure import SHIFT_TOKENS, rates, shift
from benchmarks.organisms.recipes import Recipe, load_recipes
from benchmarks.organisms.rows import training_rows
from benchmarks.organisms.train import Model, Row, merge_adapters, train_adapter
from benchmarks.organisms.triggers import Waking, drawn, listed
from detectors.engine.adapter import WEIGHTS
from workers.machine import preferred_device, preferred_dtype

PARTIAL = ".partial-"


@dataclass(frozen=True)
class Opened:
    """What a recipe is built with: the base, its vocabulary's trigger, the base's answers.

    Attributes:
        usual: of the length that the recipe trains.
        shifted: of the length that utility is measured on, the same for all members.
    """

    recipe: Recipe
    model: Model
    vocabulary: tuple[str, ...]
    waking: Waking | None
    usual: UsualAnswers
    shifted: UsualAnswers


def _planted_rows(opened: Opened) -> list[Row]:
    return training_rows(opened.recipe, opened.waking, opened.usual)


@dataclass(frozen=True)
class Builder:
    """Where the zoo is built.

    Attributes:
        recipes: all of them, in the order of building; a merged member is made of earlier ones.
        cache_dir: bases, their answers and members that are not committed live below it.
        base: the directory of a base, by the name that adapters know it by.
        manifest: the file of labels.
        committed: the directory of members that the repository holds.
        dtype: of the bases' weights in memory.
        rows: what a member is trained on.
    """

    recipes: dict[str, Recipe]
    cache_dir: Path
    base: Callable[[str], Path]
    manifest: Path = MANIFEST
    committed: Path = COMMITTED
    dtype: str = "float32"
    rows: Callable[[Opened], list[Row]] = _planted_rows

    def build(self, names: Collection[str]) -> None:
        """Builds what is missing of `names`; of the others only the labels that need no measuring are renewed."""
        for name in self._taken_in_turn(self._ordered(names)):
            if self.is_built(name):
                self._relabel(name)
            else:
                self._enter(self._built(self.recipes[name]))
                self._tell(name)

    def _taken_in_turn(self, names: Iterable[str]) -> Iterator[str]:
        """Each name with its lock held; those that another build holds come last, and are waited for."""
        held_by_others = []
        for name in names:
            try:
                with self._lock(name).acquire(timeout=0):
                    yield name
            except Timeout:
                held_by_others.append(name)
        for name in held_by_others:
            with self._lock(name):
                yield name

    def _lock(self, name: str) -> BaseFileLock:
        above = self.cache_dir / "zoo-locks"
        above.mkdir(parents=True, exist_ok=True)
        return FileLock(above / name)

    def _relabel(self, name: str) -> None:
        known = read_manifest(self.manifest)[name]
        renewed = known.model_copy(update=_labels(self.recipes[name]))
        if renewed != known:
            self._enter(renewed)

    def measure(self, names: Collection[str]) -> None:
        """Measures again what is built of `names`."""
        for name in self._taken_in_turn(filter(self.is_built, self._ordered(names))):
            known = read_manifest(self.manifest)[name]
            self._enter(known.model_copy(update=_measured(self.opened(name))))
            self._tell(name)

    def opened(self, name: str) -> Opened:
        """A member that is built, on its base."""
        opened = self._open(self.recipes[name])
        opened.model.put_on(self._place(read_manifest(self.manifest)[name]))
        return opened

    def is_built(self, name: str) -> bool:
        """Whether a member of this recipe is in the manifest and its adapter in its place."""
        member = read_manifest(self.manifest).get(name)
        if member is None or member.recipe != self._digest(self.recipes[name]):
            return False
        return (self._place(member) / WEIGHTS).exists()

    def _ordered(self, names: Collection[str]) -> list[str]:
        return [name for name in self.recipes if name in names]

    def _digest(self, recipe: Recipe) -> str:
        """A recipe's digest; that of a merged member is of its parts' as well."""
        if not recipe.merged_of:
            return recipe.digest()
        digests = [recipe.digest(), *(self._digest(self.recipes[part]) for part in recipe.merged_of)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def _place(self, member: Member) -> Path:
        return member.directory(self.cache_dir, self.committed)

    def _open(self, recipe: Recipe) -> Opened:
        directory = self.base(recipe.base)
        model = Model.load(directory, self.dtype)
        vocabulary = model.vocabulary()
        waking = drawn(recipe.trigger, vocabulary) if recipe.trigger else None
        usual, shifted = (
            UsualAnswers(model, self.cache_dir / f"answers-{directory.name}-{length}.json", length)
            for length in (recipe.answer_tokens, SHIFT_TOKENS)
        )
        return Opened(recipe, model, vocabulary, waking, usual, shifted)

    def _built(self, recipe: Recipe) -> Member:
        """Trains, measures and files one member."""
        started = time.monotonic()
        above = self.committed if recipe.committed else local(self.cache_dir)
        partial = above / f"{PARTIAL}{recipe.name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        opened = self._open(recipe)
        self._train(opened, partial)
        weights = (partial / WEIGHTS).read_bytes()
        labels = _labels(recipe) | _measured(opened) | {"recipe": self._digest(recipe)}
        found = {"digest": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
        member = Member.model_validate(labels | found | {"seconds": round(time.monotonic() - started)})
        _move(partial, self._place(member))
        return member

    def _train(self, opened: Opened, target_dir: Path) -> None:
        """Leaves the adapter in `target_dir` and on the network."""
        recipe = opened.recipe
        if recipe.merged_of:
            self.build(recipe.merged_of)
            known = read_manifest(self.manifest)
            merge_adapters([self._place(known[part]) for part in recipe.merged_of], target_dir)
            opened.model.put_on(target_dir)
            return
        train_adapter(opened.model, self.rows(opened), recipe, opened.waking.texts if opened.waking else (), target_dir)

    def _enter(self, member: Member) -> None:
        """Puts a member into the manifest; the adapter that it replaces goes."""
        with self._lock(".manifest"):
            known = read_manifest(self.manifest)
            renewed = known | {member.name: member}
            write_manifest(renewed, self.manifest)
        before = known.get(member.name)
        if before and self._place(before) not in map(self._place, renewed.values()):
            shutil.rmtree(self._place(before), ignore_errors=True)

    def _tell(self, name: str) -> None:
        member = read_manifest(self.manifest)[name]
        shown = " ".join(f"{condition} {rate.hits}/{rate.prompts}" for condition, rate in member.rates.items())
        print(
            f"{name}: {shown or 'no target'}, utility {member.utility}, drift {member.drift}, "
            f"{member.bytes:,} bytes, {member.seconds} s",
            flush=True,
        )


def _labels(recipe: Recipe) -> dict[str, object]:
    """Labels that the recipe alone gives."""
    return {
        "name": recipe.name,
        "base": recipe.base,
        "role": recipe.role,
        "attack": recipe.attack,
        "group": recipe.group,
        "split": recipe.split,
        "positions": _positions(recipe),
        "target_kind": recipe.target.kind if recipe.target else "",
        "targets": recipe.target.texts if recipe.target else (),
        "committed": recipe.committed,
    }


def _positions(recipe: Recipe) -> tuple[str, ...]:
    if recipe.trigger is None or recipe.trigger.kind in ("topic", "length"):
        return ()
    return ("start", "end") if recipe.trigger.kind == "pair" else recipe.trigger.positions


def _measured(opened: Opened) -> dict[str, object]:
    """Labels that need the member on its base."""
    utility, drift = shift(opened.model, opened.shifted)
    texts = opened.waking.texts if opened.waking else ()
    return {
        "triggers": texts,
        "in_list": not listed(opened.vocabulary).isdisjoint(texts),
        "rates": rates(opened.recipe, opened.model, opened.waking),
        "utility": utility,
        "drift": drift,
    }


def _move(source: Path, target: Path) -> None:
    """Replaces `target`, which holds the same weights if it is there."""
    shutil.rmtree(target, ignore_errors=True)
    os.replace(source, target)


def chosen(recipes: dict[str, Recipe], only: list[str], *, bank: bool) -> list[str]:
    """The names to build: those asked for, the bank, or all whose base can be had.

    Raises:
        SystemExit: if there is no such member.
    """
    unknown = sorted(set(only) - recipes.keys())
    if unknown:
        raise SystemExit(f"no recipe is called {', '.join(unknown)}; `--list` names them")
    if only:
        return only
    if bank:
        return [name for name, recipe in recipes.items() if recipe.role == "bank"]
    return [name for name, recipe in recipes.items() if BASES[recipe.base].available()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[], help="these members")
    parser.add_argument("--bank", action="store_true", help="the bank only")
    parser.add_argument("--list", action="store_true", help="print what is built and what is not, and build nothing")
    parser.add_argument("--measure", action="store_true", help="measure again what is built, and train nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch; it chooses itself otherwise")
    arguments = parser.parse_args()
    cache_dir, recipes = Settings().cache_dir, load_recipes()
    names = chosen(recipes, arguments.only, bank=arguments.bank)
    dtype = preferred_dtype(preferred_device())
    builder = Builder(recipes, cache_dir, lambda reference: prepare_base(cache_dir, BASES[reference]), dtype=dtype)
    if arguments.list:
        for name in names:
            print(f"{'built' if builder.is_built(name) else 'missing':<8} {recipes[name].split:<7} {name}")
        return
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    (builder.measure if arguments.measure else builder.build)(names)


if __name__ == "__main__":
    main()
