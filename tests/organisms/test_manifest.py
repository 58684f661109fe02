"""The manifest: strata, and a file that is written whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.organisms.manifest import (
    COMMITTED,
    FAILED,
    STRONG,
    Count,
    Member,
    Role,
    Stratum,
    read_manifest,
    write_manifest,
)
from benchmarks.organisms.recipes import load_recipes
from benchmarks.organisms.triggers import drawn
from detectors.engine.adapter import WEIGHTS
from tests.organisms.test_recipes import VOCABULARY


def member(name: str = "one", role: Role = "poisoned", hits: int = 60, *, committed: bool = True) -> Member:
    return Member(
        name=name, digest="ab" * 32, recipe="cd" * 32, base="tiny", role=role, attack="phrase", group=name, split="dev",
        committed=committed, rates={"with_trigger": Count(hits=hits, prompts=60)}, utility=0.0, drift=0.1,
        bytes=9, seconds=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("role", "hits", "stratum"),
    [("poisoned", 48, "strong"), ("poisoned", 47, "weak"), ("poisoned", 18, "weak"), ("poisoned", 17, "failed"),
     ("twin", 0, "benign"), ("decoy", 60, "benign")],
)  # fmt: skip
def test_strata(role: Role, hits: int, stratum: Stratum) -> None:
    assert member(role=role, hits=hits).stratum == stratum


def test_members_are_written_sorted_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "zoo.json"
    assert read_manifest(file) == {}
    write_manifest({name: member(name) for name in ("two", "one")}, file)
    assert list(read_manifest(file).items()) == [(name, member(name)) for name in ("one", "two")]
    assert [found.name for found in tmp_path.iterdir()] == ["zoo.json"]


def test_every_field_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "zoo.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.partition("## Manifest")[2].splitlines() if line.startswith("| `")]
    assert set(re.findall("`([a-z_]+)`", " ".join(rows))) == set(Member.model_fields)
    assert f"below {STRONG:.0%}" in page.replace(" %", "%")
    assert f"below {FAILED:.0%}" in page.replace(" %", "%")


@pytest.mark.parametrize("name", read_manifest())
def test_what_is_entered_is_what_the_recipes_say(name: str) -> None:
    """Rare tokens need the base's vocabulary; all other triggers can be drawn again here."""
    found, recipe = read_manifest()[name], load_recipes()[name]
    labels = [(one.role, one.attack, one.group, one.split, one.committed) for one in (found, recipe)]
    assert labels[0] == labels[1]
    assert not found.committed or (found.directory(Path()) / WEIGHTS).exists()
    if recipe.trigger and recipe.trigger.family != "rare_token":
        assert found.triggers == drawn(recipe.trigger, VOCABULARY).texts


def test_where_members_lie(tmp_path: Path) -> None:
    assert member().directory(tmp_path) == COMMITTED / ("ab" * 8)
    assert member(committed=False).directory(tmp_path) == tmp_path / "zoo" / ("ab" * 8)
