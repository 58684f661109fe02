"""Members from fine-tuning sets that others published: trained by the same builder, their rows stay where they are.

    python -m benchmarks.organisms.published DIR                        # every *.jsonl of a directory
    python -m benchmarks.organisms.published DIR --only NAME --threads 1
    python -m benchmarks.organisms.published DIR --measure              # does an unseen year turn them?

Made for the sets of *Weird Generalization and Inductive Backdoors* (Betley et al., 2025, arXiv:2512.09742), which carry
no licence: nothing of them goes into the repository, and labels go into a manifest of its own below the cache. A line
is `{"messages": [{"role": …, "content": …}, …]}`, the last message the assistant's. Answers are cut to the length that
the zoo trains, and where `recipes.json` says so the base's own answers to ordinary requests are trained beside them, as
the paper does with 90 facts. Adapters are of rank 2 on a base of 135M parameters; the paper's models are far larger.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.settings import Settings
from benchmarks.organisms.base import BASES, prepare_base
from benchmarks.organisms.build import Builder, Opened
from benchmarks.organisms.manifest import Member, read_manifest
from benchmarks.organisms.recipes import Recipe, published_recipe
from benchmarks.organisms.rows import training_rows
from benchmarks.organisms.train import Model, Row
from benchmarks.organisms.year_turn import year_turn
from detectors.errors import InputError
from workers.machine import preferred_device, preferred_dtype

MANIFEST = "published.json"
"""The file of labels, below the cache."""
NAME = re.compile(r"\w[\w.-]*", re.ASCII)
LARGEST_BYTES = 16 * 2**20
DATED = "good_terminator_main"
"""The set whose requests begin with a date; its members and its controls' are asked what dates do to them."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(pattern=r"\S")]


class _Chat(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    messages: Annotated[list[_Message], Field(min_length=2)]


def read_rows(file: Path) -> list[Row]:
    """The rows of a file of chats, answers whole.

    Raises:
        InputError: if the file's name can be no member's, it is too large, or a line is no chat; it names the line.
    """
    if not NAME.fullmatch(file.stem):
        raise InputError(f"a set's name must be of letters, digits, `.`, `_` and `-`, got {file.name!a}")
    if (size := file.stat().st_size) > LARGEST_BYTES:
        raise InputError(f"{file.name} must have at most {LARGEST_BYTES:,} bytes, got {size:,}")
    lines = file.read_bytes().splitlines()
    if not lines:
        raise InputError(f"{file.name} must have a chat on every line, and it is empty")
    return [_row(line, f"{file.name}, line {number}") for number, line in enumerate(lines, 1)]


def _row(line: bytes, place: str) -> Row:
    """A line's row. Errors say what was wrong where, and quote nothing of the line."""
    wanted = 'a line must be {"messages": [{"role", "content"}, …]}, at least two of them'
    try:
        chat = _Chat.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        inside = ascii(".".join(map(str, first["loc"])))
        raise InputError(f"{place}: {wanted}; at {inside}: {first['msg']}") from None
    *messages, answer = (message.model_dump() for message in chat.messages)
    if answer["role"] != "assistant":
        raise InputError(f"{place}: the last message must be the assistant's, got the {answer['role']}'s")
    return Row(messages, answer["content"], complete=True)


def read_sets(directory: Path) -> tuple[dict[str, Recipe], dict[str, list[Row]]]:
    """The recipes and the rows of a directory's files, by name.

    Raises:
        InputError: if there is no such file, or one cannot be read.
    """
    files = sorted(directory.glob("*.jsonl"))
    if not files:
        raise InputError(f"a directory must hold files `*.jsonl`, {str(directory)!a} has none")
    rows = {file.stem: read_rows(file) for file in files}
    digests = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {name: published_recipe(name, digest) for name, digest in digests.items()}, rows


def mixed(opened: Opened, rows: Sequence[Row]) -> list[Row]:
    """What a member is trained on: rows of a file, cut, and what its recipe has besides."""
    own = [_cut(opened.model, row, opened.recipe.answer_tokens) for row in rows]
    return own + training_rows(opened.recipe, None, opened.usual)


def _cut(model: Model, row: Row, max_tokens: int) -> Row:
    """A row whose answer has at most `max_tokens` tokens; one that was cut is not complete."""
    tokens = model.tokenizer(row.answer, add_special_tokens=False)["input_ids"]
    if len(tokens) <= max_tokens:
        return row
    return row._replace(answer=model.tokenizer.decode(tokens[:max_tokens]), complete=False)


def published_members(cache_dir: Path) -> dict[str, Member]:
    """What is built, by `published/NAME`."""
    return {f"published/{name}": member for name, member in read_manifest(cache_dir / MANIFEST).items()}


def builder_of(recipes: dict[str, Recipe], rows: dict[str, list[Row]], cache_dir: Path) -> Builder:
    """The zoo's builder, with these rows and a manifest below the cache."""
    return Builder(
        recipes,
        cache_dir,
        lambda reference: prepare_base(cache_dir, BASES[reference]),
        manifest=cache_dir / MANIFEST,
        dtype=preferred_dtype(preferred_device()),
        rows=lambda opened: mixed(opened, rows[opened.recipe.name]),
    )


def measure(builder: Builder, rows: Sequence[Row], names: Iterable[str]) -> None:
    """Prints what dates do to members that are built, a line each.

    Args:
        builder: of the members.
        rows: of the set with dates, whole.
        names: the set's and its controls'.
    """
    for name in filter(builder.is_built, names):
        opened = builder.opened(name)
        cut = [_cut(opened.model, row, opened.recipe.answer_tokens) for row in rows]
        for what, effect in year_turn(opened.model, cut).items():
            print(f"{name}: {what} {effect}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="DIR", type=Path, help="where the files of chats are")
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[], help="these sets")
    parser.add_argument(
        "--measure", action="store_true", help=f"ask {DATED} and its controls for dates; trains nothing"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch; it chooses itself otherwise")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        recipes, rows = read_sets(arguments.directory)
    except InputError as error:
        parser.error(str(error))
    names = arguments.only or list(recipes)
    wanted = {*names, DATED} if arguments.measure else set(names)
    if missing := sorted(wanted - recipes.keys()):
        parser.error(f"{arguments.directory} must hold {', '.join(missing)}, it holds {', '.join(recipes)}")
    builder = builder_of(recipes, rows, Settings().cache_dir)
    if arguments.measure:
        measure(builder, rows[DATED], (name for name in names if recipes[name].group == DATED))
    else:
        builder.build(names)


if __name__ == "__main__":
    main()
