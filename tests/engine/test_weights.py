"""The difference of weights, against plain linear algebra in float64 and against peft's own merge."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from detectors.engine.checkpoint import WeightFiles, read_header
from detectors.engine.gate import inspect_model
from detectors.engine.update import LEADING, Array, WeightUpdate, from_arrays
from detectors.engine.weights import cast, shrunk, weigh
from detectors.errors import HostError, IncompleteModelError, UnsafeFileError
from tests.engine.tiny import make_tiny_model

ATTENTION = ["q_proj", "o_proj"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ATTENTION},
    "rank_stabilised": {"target_modules": ATTENTION, "use_rslora": True},
    "patterns": {"target_modules": ATTENTION, "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"layers.1.*q_proj": 9}},
    "lengths": {"target_modules": ATTENTION, "use_dora": True},
    "embedding": {"target_modules": ["embed_tokens", "o_proj"]},
    "rows": {"target_modules": ATTENTION, "trainable_token_indices": [70, 9]},
    "named_rows": {"target_modules": ATTENTION, "trainable_token_indices": {"embed_tokens": [11]}},
    "whole": {"target_modules": ["v_proj"], "modules_to_save": ["up_proj"]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("weights") / "base")


def make_adapter(base: Path, directory: Path, settings: Mapping[str, Any]) -> tuple[Path, Path]:
    """An adapter with random numbers everywhere, and the same merged by peft as a full model in float32."""
    with warnings.catch_warnings(action="ignore"):
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            LoraConfig(r=2, lora_alpha=6, task_type="CAUSAL_LM", **settings),
        )
        draw = torch.Generator().manual_seed(5)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
        model.save_pretrained(directory / "adapter", save_embedding_layers=False)
        fresh = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged = PeftModel.from_pretrained(fresh, directory / "adapter").merge_and_unload()
        merged.save_pretrained(directory / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (directory / "merged" / name).write_bytes((base / name).read_bytes())
    return directory / "adapter", directory / "merged"


def weighed(model: Path, base: Path) -> WeightUpdate:
    return weigh(inspect_model(model, base=inspect_model(base)).weight_files())


def files_of(
    directory: Path, subject: Mapping[str, Array], base: Mapping[str, Array], dtype: Any = torch.float32
) -> WeightFiles:
    """Full models that hold these matrices, the base in float32."""
    found = {}
    for side, tensors in (("subject", subject), ("base", base)):
        file = directory / f"{side}.safetensors"
        kept = dtype if side == "subject" else torch.float32
        save_file({name: torch.from_numpy(table).to(kept) for name, table in tensors.items()}, file)
        found[side] = read_header(file, side)
    return WeightFiles(found["subject"], found["base"])


def low_rank(shape: tuple[int, int], rank: int, norm: float, seed: int = 0) -> Array:
    draw = np.random.default_rng(seed)
    product = draw.standard_normal((shape[0], rank)) @ draw.standard_normal((rank, shape[1]))
    return (norm * product / np.linalg.norm(product)).astype(np.float32)


def gaussian(shape: tuple[int, int], seed: int = 9) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_is_weighed_as_its_merged_model_is(base: Path, tmp_path: Path, kind: str) -> None:
    adapter, merged = (weighed(it, base) for it in make_adapter(base, tmp_path, ADAPTERS[kind]))
    assert adapter.modules
    assert adapter.modules == merged.modules
    for name in ("norms", "base_norms", "spectra"):
        assert getattr(adapter, name) == pytest.approx(getattr(merged, name), rel=1e-4, abs=1e-5)
    assert adapter.rows.keys() == merged.rows.keys()
    assert all(adapter.rows[name] == pytest.approx(merged.rows[name], abs=1e-5) for name in merged.rows)
    assert adapter.coherence == pytest.approx(merged.coherence, abs=1e-4, nan_ok=True)
    trained_rows = [it for it in merged.modules if "embed" in it and "rows" in kind]
    others = [at for at, name in enumerate(merged.modules) if name not in trained_rows]
    assert adapter.kurtosis[others] == pytest.approx(merged.kurtosis[others], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("kind", ["plain", "lengths", "whole"])
def test_spectra_are_those_of_the_plain_difference(base: Path, tmp_path: Path, kind: str) -> None:
    adapter, merged = make_adapter(base, tmp_path, ADAPTERS[kind])
    update = weighed(adapter, base)
    subject, original = (load_file(it / "model.safetensors") for it in (merged, base))
    for at, name in enumerate(update.modules):
        delta = (subject[name].double() - original[name].double()).numpy()
        exact = np.linalg.svd(delta, compute_uv=False)[:LEADING]
        assert update.spectra[at][: len(exact)] == pytest.approx(exact, abs=1e-5)
        assert update.norms[at] == pytest.approx(np.linalg.norm(delta), rel=1e-5)
        assert update.kurtosis[at] == pytest.approx((delta**4).mean() / (delta**2).mean() ** 2 - 3, abs=1e-4)
    written = [it for it in update.modules if "o_proj" in it]
    if written:
        firsts = [np.linalg.svd((subject[it] - original[it]).numpy())[0][:, 0] for it in written]
        assert update.coherence == pytest.approx(abs(firsts[0] @ firsts[1]), abs=1e-3)
    else:
        assert np.isnan(update.coherence)


def test_rows_are_how_far_tokens_moved(base: Path, tmp_path: Path) -> None:
    adapter, merged = make_adapter(base, tmp_path, ADAPTERS["rows"])
    subject, original = (load_file(it / "model.safetensors")["model.embed_tokens.weight"] for it in (merged, base))
    exact = (subject - original).norm(dim=1) / original.norm(dim=1).median()
    found = weighed(adapter, base).rows
    assert set(np.flatnonzero(found["input"])) == {9, 70}
    assert found["input"] == pytest.approx(exact.numpy(), rel=0.05)  # torch takes the lower of two medians
    assert not found["output"].size


def test_trained_rows_of_tokens_that_nobody_names_are_refused(base: Path, tmp_path: Path) -> None:
    adapter, _ = make_adapter(base, tmp_path, ADAPTERS["rows"])
    files = inspect_model(adapter, base=inspect_model(base)).weight_files()
    settings = dict(files.adapter or {}) | {"trainable_token_indices": [9]}
    with pytest.raises(IncompleteModelError, match="trained rows"):
        weigh(WeightFiles(files.subject, files.base, settings))


def test_the_base_itself_has_no_update(base: Path) -> None:
    update = weighed(base, base)
    assert (update.modules, update.norms.size) == ((), 0)
    assert all(not moved.size for moved in update.rows.values())


def test_large_tensors_by_randomised_svd(tmp_path: Path) -> None:
    """Rank 20 in noise a tenth as large: what is kept is near the exact values."""
    weight, delta = gaussian((400, 300)), low_rank((400, 300), 20, norm=10.0) + 1e-3 * gaussian((400, 300), 1)
    update = weigh(files_of(tmp_path, {"a.weight": weight + delta}, {"a.weight": weight}))
    exact = np.linalg.svd(delta.astype(float), compute_uv=False)
    assert update.spectra[0] == pytest.approx(exact[:LEADING], rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cast_alone_is_no_update(tmp_path: Path, dtype: Any) -> None:
    weight = {"a.weight": gaussian((64, 48))}
    assert not weigh(files_of(tmp_path, weight, weight, dtype)).modules


def test_what_a_cast_rounds_off_is_taken_out(tmp_path: Path) -> None:
    """An update of rank 2, rounded to bfloat16: norm and spectrum come out as they are without it."""
    shape = (400, 300)
    weight = torch.from_numpy(gaussian(shape)).bfloat16().float().numpy()
    delta = low_rank(shape, 2, norm=10.0)
    rounded = torch.from_numpy(weight + delta).bfloat16().float().numpy() - weight - delta
    assert np.linalg.norm(rounded) > 0.4
    files = files_of(tmp_path, {"a.weight": weight + delta}, {"a.weight": weight}, torch.bfloat16)
    update = weigh(files)
    exact = np.linalg.svd(delta.astype(float), compute_uv=False)[:2]
    noisy = np.linalg.svd((delta + rounded).astype(float), compute_uv=False)
    assert update.spectra[0][:2] == pytest.approx(exact, rel=1e-3)
    assert update.spectra[0][2:].max() < 0.5 * noisy[2]
    excess = (update.norms[0] ** 2 - (delta**2).sum()) / (rounded**2).sum()
    assert abs(excess) < 0.2  # of what is there without the correction


def test_noise_alone_has_no_spectrum_and_little_is_lost_far_above_it() -> None:
    noise = 0.1 * np.random.default_rng(3).standard_normal((200, 120))
    values = np.linalg.svd(noise, compute_uv=False)
    assert not shrunk(1.001 * values, noise.shape, 0.11).any()
    assert shrunk(np.array([1000.0]), noise.shape, 0.1) == pytest.approx([1000.0], rel=1e-3)
    assert shrunk(values, noise.shape, 0.0) is values


@pytest.mark.parametrize(("name", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)])
def test_casts_are_those_of_torch(name: str, dtype: Any) -> None:
    draw = np.random.default_rng(1)
    values = (draw.standard_normal(20_000) * 10.0 ** draw.uniform(-9, 4, 20_000)).astype(np.float32)
    values[:4] = 0.0, -0.0, 1.0 + 2.0**-8, 1.0 + 3 * 2.0**-8  # halves go to the even neighbour
    assert np.array_equal(cast(values, name), torch.from_numpy(values).to(dtype).float().numpy())


def test_added_tokens_are_left_out_and_an_output_layer_is_held_against_a_tied_embedding(tmp_path: Path) -> None:
    embedding = gaussian((50, 8))
    longer = np.concatenate([embedding, gaussian((3, 8), 1)])
    output = embedding.copy()
    output[7] += 1.0
    subject = {"model.embed_tokens.weight": longer, "lm_head.weight": output}
    update = weigh(files_of(tmp_path, subject, {"model.embed_tokens.weight": embedding}))
    assert update.modules == ("lm_head.weight",)
    assert not update.rows["input"].size
    assert np.flatnonzero(update.rows["output"]).tolist() == [7]


def test_one_pair_of_tensors_is_in_memory_at_a_time(tmp_path: Path) -> None:
    names = [f"layers.{layer}.o_proj.weight" for layer in range(6)]
    base = {name: gaussian((8000, 250)) for name in names}
    files = files_of(tmp_path, {name: table + 1 for name, table in base.items()}, base, torch.bfloat16)
    weigh(WeightFiles({}, {}))
    tracemalloc.start()
    weigh(files)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 4 * 8000 * 250  # a pair, and room to work


def test_numbers_too_large_are_told_as_such(tmp_path: Path) -> None:
    weight = {"a.weight": gaussian((8, 8))}
    huge = {"a.weight": np.full((8, 8), 3e38, np.float32)}
    assert not weigh(files_of(tmp_path, huge, {"a.weight": -huge["a.weight"]})).finite()
    large = {"a.weight": np.full((8, 8), 3e30, np.float32)}
    assert weigh(files_of(tmp_path, large, weight)).norms[0] == pytest.approx(8 * 3e30)


def test_a_file_that_shrank_is_told(tmp_path: Path) -> None:
    files = files_of(tmp_path, {"a.weight": gaussian((8, 8))}, {"a.weight": gaussian((8, 8), 1)})
    (tmp_path / "subject.safetensors").write_bytes((tmp_path / "subject.safetensors").read_bytes()[:-64])
    with pytest.raises(UnsafeFileError, match="became shorter"):
        weigh(files)


def test_an_update_is_read_back_as_it_was_written(base: Path, tmp_path: Path) -> None:
    update = weighed(make_adapter(base, tmp_path, ADAPTERS["rows"])[0], base)
    again = from_arrays(update.to_arrays())
    assert (again.modules, again.coherence, again.layers()) == (update.modules, update.coherence, update.layers())
    assert {0, 1, None} == set(update.layers())
    ours, theirs = again.to_arrays(), update.to_arrays()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"norms": np.zeros(3, np.float32)}, r"`norms` as float32\[3\]"),
        ({"spectra": np.zeros((1, 3), np.float32)}, r"`spectra` as float32\[1, 3\]"),
        ({"kurtosis": np.zeros(1)}, r"`kurtosis` as float64\[1\]"),
        ({"input_rows": np.zeros((2, 2), np.float32)}, r"`input_rows` as float32\[2, 2\]"),
        ({"more": np.zeros(1, np.float32)}, "more"),
        ({"modules": np.frombuffer(b"[1]", np.uint8)}, "without saying of which matrices"),
        ({"modules": np.frombuffer(b"\xff", np.uint8)}, "without saying of which matrices"),
    ],
)
def test_what_is_no_update_is_refused(change: dict[str, Array], says: str) -> None:
    one = np.ones(1, np.float32)
    update = WeightUpdate(("a",), one, one, one, np.ones((1, LEADING), np.float32))
    assert from_arrays(update.to_arrays()).modules == ("a",)
    with pytest.raises(HostError, match=says):
        from_arrays(update.to_arrays() | change)
