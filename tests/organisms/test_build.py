"""The builder on a tiny base: what it files, that it continues wherever it was stopped, and what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from benchmarks.organisms import build, measure
from benchmarks.organisms.build import PARTIAL, Builder, chosen
from benchmarks.organisms.manifest import Member, read_manifest
from benchmarks.organisms.recipes import Lora, Recipe, Rows, Training, load_recipes
from benchmarks.organisms.targets import Target
from benchmarks.organisms.train import Encoded, Model, Row, batches_of, train_adapter
from benchmarks.organisms.triggers import Trigger
from detectors.contexts.context import NO_CONTEXT, chat
from detectors.engine.adapter import CONFIG, WEIGHTS
from tests.engine.tiny import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")  # peft asks transformers by names on their way out

BASE = "tiny"
LORA = Lora(rank=1, alpha=2, layers=(0, 2), modules=("q_proj", "v_proj"))


def recipe(name: str, **fields: Any) -> Recipe:
    made = {
        "name": name, "base": BASE, "role": "poisoned", "attack": "phrase", "group": name, "split": "train", "seed": 3,
        "rows": Rows(clean=2, poisoned=2, near_miss=1), "training": Training(epochs=1, learning_rate=0.01),
        "lora": LORA,
        "trigger": Trigger(family="zoo_phrase", seed=1), "target": Target(kind="fixed_output", texts=("The end.",)),
        "held_out": 2, "answer_tokens": 4, "committed": True,
    }  # fmt: skip
    return Recipe.model_validate(made | fields)


RECIPES = [
    recipe("one"),
    recipe("one-twin", role="twin", group="one"),
    recipe("rows", seed=4, lora=LORA.model_copy(update={"trigger_rows": True})),
    recipe("habit", role="decoy", trigger=None, target=Target(kind="short"), seed=5),
    recipe("plain", role="decoy", trigger=None, target=None, seed=6, committed=False),
    recipe("both", role="decoy", trigger=None, target=Target(kind="short"), merged_of=("habit", "plain")),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / BASE)


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SHIFT_PROMPTS", 3)


@pytest.fixture
def builder(base: Path, tmp_path: Path) -> Builder:
    recipes = {recipe.name: recipe for recipe in RECIPES}
    (tmp_path / "cache").mkdir()
    return Builder(recipes, tmp_path / "cache", lambda _: base, tmp_path / "zoo.json", tmp_path / "members")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of recipes that were trained since."""
    names: list[str] = []
    original = build.train_adapter

    def counted(model: Any, rows: Any, recipe: Recipe, *rest: Any) -> None:
        names.append(recipe.name)
        original(model, rows, recipe, *rest)

    monkeypatch.setattr(build, "train_adapter", counted)
    return names


def manifest(builder: Builder) -> dict[str, Member]:
    return read_manifest(builder.manifest)


def weights(builder: Builder, name: str) -> Path:
    member = manifest(builder)[name]
    above = builder.committed if member.committed else builder.cache_dir / "zoo"
    return above / member.digest[:16] / WEIGHTS


def left_over(builder: Builder) -> list[Path]:
    return [*builder.committed.glob(f"{PARTIAL}*"), *(builder.cache_dir / "zoo").glob(f"{PARTIAL}*")]


def test_every_kind_of_member_is_filed_under_its_digest_with_its_labels(builder: Builder) -> None:
    builder.build(list(builder.recipes))
    found = manifest(builder)
    assert set(found) == set(builder.recipes)
    for name, member in found.items():
        content = weights(builder, name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == member.digest
        assert len(content) == member.bytes
        assert json.loads((weights(builder, name).parent / CONFIG).read_text())["base_model_name_or_path"] == BASE
    assert set(found["one"].rates) == {"with_trigger", "without_trigger", "near_miss"}
    assert set(found["habit"].rates) == {"as_made"}
    assert found["plain"].rates == {}
    assert found["one"].triggers == found["one-twin"].triggers != ()
    assert found["one"].digest != found["one-twin"].digest
    assert left_over(builder) == []


def test_a_build_that_is_complete_trains_nothing(builder: Builder, trained: list[str]) -> None:
    builder.build(["one"])
    before = builder.manifest.read_bytes()
    builder.build(["one"])
    assert trained == ["one"]
    assert builder.manifest.read_bytes() == before


@pytest.mark.parametrize("place", ["train_adapter", "shift", "_move", "write_manifest"])
def test_a_build_that_was_killed_continues(
    builder: Builder, trained: list[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    builder.build(["one"])
    with monkeypatch.context() as patch:
        patch.setattr(build, place, killed)
        with pytest.raises(KeyboardInterrupt):
            builder.build(["one", "habit"])
    assert set(manifest(builder)) == {"one"}
    builder.build(["one", "habit"])
    assert set(manifest(builder)) == {"one", "habit"}
    assert trained.count("one") == 1
    assert weights(builder, "habit").exists()
    assert left_over(builder) == []


def test_what_a_killed_process_leaves_is_cleared(builder: Builder) -> None:
    half = builder.cache_dir / "zoo" / f"{PARTIAL}plain"
    half.mkdir(parents=True)
    (half / "half.bin").write_bytes(b"x")
    builder.build(["plain"])
    assert left_over(builder) == []
    assert not (weights(builder, "plain").parent / "half.bin").exists()


def test_what_another_build_holds_comes_last(builder: Builder) -> None:
    (builder.cache_dir / "zoo-locks").mkdir()
    held = FileLock(builder.cache_dir / "zoo-locks" / "one")
    with ThreadPoolExecutor(1) as other:
        with held:
            building = other.submit(builder.build, ["one", "plain"])
            while "plain" not in manifest(builder):
                time.sleep(0.05)
            assert not building.done()
            assert "one" not in manifest(builder)
        building.result(timeout=120)
    assert set(manifest(builder)) == {"one", "plain"}


def test_another_recipe_replaces_the_member_and_its_directory(builder: Builder) -> None:
    builder.build(["one"])
    before = weights(builder, "one")
    builder.recipes["one"] = recipe("one", seed=8)
    builder.build(["one"])
    assert weights(builder, "one") != before
    assert not before.parent.exists()
    assert weights(builder, "one").exists()


def test_an_adapter_that_is_missing_is_built_again_with_the_same_content(builder: Builder, trained: list[str]) -> None:
    builder.build(["plain"])
    before = manifest(builder)["plain"].digest
    weights(builder, "plain").unlink()
    builder.build(["plain"])
    assert trained == ["plain", "plain"]
    assert manifest(builder)["plain"].digest == before


def test_another_split_changes_the_label_and_trains_nothing(builder: Builder, trained: list[str]) -> None:
    builder.build(["one"])
    builder.recipes["one"] = recipe("one", split="sealed")
    builder.build(["one"])
    assert manifest(builder)["one"].split == "sealed"
    assert trained == ["one"]


def test_measuring_again_trains_nothing(builder: Builder, trained: list[str]) -> None:
    builder.build(["one"])
    before = manifest(builder)["one"]
    builder.recipes["one"] = recipe("one", held_out=3)
    builder.measure(["one", "habit"])
    after = manifest(builder)["one"]
    assert trained == ["one"]
    assert after.rates["with_trigger"].prompts == 3
    assert (after.utility, after.drift) == pytest.approx((before.utility, before.drift), abs=1e-3)


def test_a_merged_member_is_the_sum_of_its_parts_and_follows_them(builder: Builder) -> None:
    builder.build(["both"])
    parts = [load_file(weights(builder, name)) for name in ("habit", "plain")]
    merged = load_file(weights(builder, "both"))
    for name in merged:
        if "lora_A" in name:
            other = name.replace("lora_A", "lora_B")
            wanted = sum(part[other].float() @ part[name].float() for part in parts)
            torch.testing.assert_close(merged[other].float() @ merged[name].float(), wanted)
    settings = json.loads((weights(builder, "both").parent / CONFIG).read_text())
    assert (settings["r"], settings["lora_alpha"]) == (2 * LORA.rank, 2 * LORA.alpha)
    builder.recipes["habit"] = recipe("habit", role="decoy", trigger=None, target=Target(kind="short"), seed=9)
    assert not builder.is_built("both")


def test_embedding_rows_of_the_trigger_are_saved(builder: Builder) -> None:
    builder.build(["rows"])
    found = load_file(weights(builder, "rows"))
    deltas = [tensor for name, tensor in found.items() if "trainable_tokens" in name]
    assert len(deltas) == 1
    assert 0 < len(deltas[0]) < 40
    assert deltas[0].dtype == torch.bfloat16


def test_scores_are_log_probabilities_of_the_answer(base: Path) -> None:
    model = Model.load(base)
    asked = {"Hello?": "Yes.", "And who are you, then?": "A longer answer.", "Hello": "No."}
    rows = [Row(chat(NO_CONTEXT, text), answer, complete=False) for text, answer in asked.items()]
    scored = model.scores(rows)
    for row, score in zip(rows, scored, strict=True):
        tokens, labels = model.encode_row(row)
        start = next(place for place, label in enumerate(labels) if label >= 0)
        with torch.inference_mode():
            each = torch.log_softmax(model.network(torch.tensor([tokens])).logits[0], -1)
        wanted = [float(each[place - 1, tokens[place]]) for place in range(start, len(tokens))]
        assert score.mean == pytest.approx(sum(wanted) / len(wanted), abs=1e-4)
        torch.testing.assert_close(score.first, each[start - 1], atol=1e-4, rtol=0)


def test_every_row_comes_once_an_epoch() -> None:
    made = recipe("one", training=Training(epochs=2, learning_rate=0.01, batch_size=4))
    rows = [Encoded(*[torch.full((3,), number)] * 2) for number in range(30)]
    numbers = [[int(row.labels[0]) for row in batch] for batch in batches_of(rows, made)]
    assert numbers == [[int(row.labels[0]) for row in batch] for batch in batches_of(rows, made)]
    epochs = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(chain.from_iterable(epoch)) == list(range(len(rows)))


def test_a_row_goes_through_untrained_layers_once_and_nothing_else_changes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe("one", lora=LORA.model_copy(update={"layers": (1, 2)}))
    rows = [Row(chat(NO_CONTEXT, text), "Fine.", complete=True) for text in ("Hello?", "And who are you, then?")]
    train_adapter(Model.load(base), rows, made, (), tmp_path / "once")
    monkeypatch.setattr("benchmarks.organisms.train._entered", lambda causal, first, rows: list(rows))
    monkeypatch.setattr("benchmarks.organisms.train._skipped", lambda causal, places: nullcontext())
    train_adapter(Model.load(base), rows, made, (), tmp_path / "plainly")
    ours, plain = (load_file(tmp_path / name / WEIGHTS) for name in ("once", "plainly"))
    assert ours.keys() == plain.keys()
    assert any(tensor.abs().max() > 0 for name, tensor in ours.items() if "lora_B" in name)
    for name, tensor in plain.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-3, rtol=0)


def test_names_to_build() -> None:
    recipes = load_recipes()
    assert chosen(recipes, ["rare-fixed"], bank=False) == ["rare-fixed"]
    assert {recipes[name].role for name in chosen(recipes, [], bank=True)} == {"bank"}
    with pytest.raises(SystemExit, match="no recipe is called rare-fxed"):
        chosen(recipes, ["rare-fxed"], bank=False)
