"""Lineage: what fine-tuning may change, and what shows that a subject comes from elsewhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from peft import LoraConfig
from safetensors.numpy import load_file, save_file

from detectors.engine.adapter import KNOWN_KEYS
from detectors.engine.checkpoint import Inspected
from detectors.engine.gate import inspect_model
from detectors.engine.lineage import MIN_SIMILARITY, check_lineage, weight_similarity
from detectors.errors import (
    AdapterBaseMismatch,
    ArchitectureMismatch,
    IncompleteModelError,
    UnrelatedWeights,
    VocabularyMismatch,
)
from tests.engine.test_files import hub_cache
from tests.engine.test_gate import edit, refuse
from tests.engine.tiny import VOCABULARY, make_tiny_adapter, make_tiny_model

Tensors = dict[str, NDArray[np.float32]]


def rewrite(file: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def add_noise(tensors: Tensors, scale: float) -> None:
    generator = np.random.default_rng(1)
    for name, values in tensors.items():
        noise = generator.standard_normal(values.shape).astype(np.float32)
        tensors[name] = values + scale * values.std() * noise


def notices(subject: Path, base: Inspected) -> str:
    return " ".join(inspect_model(subject, base=base).card.notices)


def test_the_base_itself(tiny_base: Inspected, model: Path) -> None:
    assert "subject is the base" in notices(model, tiny_base)


@pytest.mark.parametrize(("scale", "least"), [(0.01, 0.999), (0.1, 0.99), (0.5, 0.85)])
def test_a_noised_copy_descends(tiny_base: Inspected, model: Path, scale: float, least: float) -> None:
    rewrite(model / "model.safetensors", lambda tensors: add_noise(tensors, scale))
    inspected = inspect_model(model, base=tiny_base)
    similarity = weight_similarity(inspected.tensors, tiny_base.tensors)
    assert similarity is not None
    assert least < similarity < 1.0
    assert inspected.card.notices == ()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_start_does_not(tiny_base: Inspected, tmp_path: Path, seed: int) -> None:
    other = make_tiny_model(tmp_path / "other", seed=seed)
    refuse(other, UnrelatedWeights, "median cosine", f"wanted at least {MIN_SIMILARITY}", base=tiny_base)
    similarity = weight_similarity(inspect_model(other).tensors, tiny_base.tensors)
    assert similarity is not None
    assert abs(similarity) < 0.1


def test_a_copy_in_half_precision_descends(tiny_base: Inspected, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({name: values.astype(np.float16) for name, values in tensors.items()}, model / "model.safetensors")
    assert notices(model, tiny_base) == ""


def test_a_shared_offset_is_no_resemblance(tiny_base: Inspected, tmp_path: Path, model: Path) -> None:
    def shift(tensors: Tensors) -> None:
        for name, values in tensors.items():
            tensors[name] = values + np.float32(10)

    other = make_tiny_model(tmp_path / "other", seed=5)
    rewrite(other / "model.safetensors", shift)
    rewrite(model / "model.safetensors", shift)
    refuse(other, UnrelatedWeights, "median cosine", base=inspect_model(model))


def test_zeroed_matrices_do_not_resemble(tiny_base: Inspected, model: Path) -> None:
    def clear(tensors: Tensors) -> None:
        for values in tensors.values():
            values[:] = 0

    rewrite(model / "model.safetensors", clear)
    refuse(model, UnrelatedWeights, "0.000", base=tiny_base)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"layers": 3}, ("num_hidden_layers", "'3'", "'2'")), ({"d_model": 64}, ("hidden_size", "'64'", "'32'"))],
)
def test_other_sizes(tiny_base: Inspected, tmp_path: Path, options: dict[str, Any], words: tuple[str, ...]) -> None:
    refuse(make_tiny_model(tmp_path / "other", **options), ArchitectureMismatch, *words, base=tiny_base)


def test_other_architecture(tiny_base: Inspected, model: Path) -> None:
    edit(model / "config.json", architectures=["MistralForCausalLM"], model_type="mistral")
    refuse(model, ArchitectureMismatch, "model_type", "'mistral'", "'llama'", base=tiny_base)


def test_shape_that_the_configuration_hides(tiny_base: Inspected, model: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(model / "model.safetensors", lambda tensors: tensors.update({name: tensors[name][:5].copy()}))
    refuse(model, ArchitectureMismatch, name, "[5, 32]", "[64, 32]", base=tiny_base)


def test_missing_tensor(tiny_base: Inspected, model: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(model / "model.safetensors", lambda tensors: tensors.pop(name))
    refuse(model, IncompleteModelError, name, "1 tensors", base=tiny_base)


def test_tied_output_layer_may_be_absent(tiny_base: Inspected, model: Path) -> None:
    def untie(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()

    rewrite(model / "model.safetensors", untie)
    explicit = inspect_model(model)
    assert check_lineage(tiny_base, explicit) == ()
    assert "lm_head.weight" in notices(model, tiny_base)


def test_configuration_changes_are_a_notice(tiny_base: Inspected, model: Path) -> None:
    edit(model / "config.json", rms_norm_eps=1e-3)
    assert "differs from the base's in 'rms_norm_eps'" in notices(model, tiny_base)


def test_added_tokens_are_accepted_and_listed(tiny_base: Inspected, tmp_path: Path) -> None:
    extra = ("<tool>", "\x1b[31m")
    larger = make_tiny_model(tmp_path / "larger", vocab=VOCABULARY + 6, extra_tokens=extra)

    def inherit(tensors: Tensors) -> None:
        for name, values in load_file(tiny_base.path / "model.safetensors").items():
            tensors[name][: len(values)] = values

    rewrite(larger / "model.safetensors", inherit)
    said = notices(larger, tiny_base)
    assert "Tokens added to the base's vocabulary: 2" in said
    assert "'<tool>'" in said
    assert "\x1b" not in said


def test_remapped_token(tiny_base: Inspected, model: Path) -> None:
    file = model / "tokenizer.json"
    definition = json.loads(file.read_text())
    vocabulary = definition["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(definition))
    refuse(model, VocabularyMismatch, f"token id {vocabulary['b']} is 'b'", "'a'", base=tiny_base)


def test_smaller_vocabulary_with_other_ids(tiny_base: Inspected, model: Path) -> None:
    edit(model / "tokenizer.json", model={"type": "BPE", "vocab": {"x": 0, "y": 1}, "merges": []}, added_tokens=[])
    refuse(model, VocabularyMismatch, "token id 0", "'x'", "<|endoftext|>", base=tiny_base)


def test_absent_tokens_are_a_notice(tiny_base: Inspected, model: Path) -> None:
    file = model / "tokenizer.json"
    definition = json.loads(file.read_text())
    definition["model"]["vocab"].popitem()
    file.write_text(json.dumps(definition))
    assert "lacks: 1" in notices(model, tiny_base)


def test_other_template_and_splitting_are_notices(tiny_base: Inspected, model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ messages[0].content }} Obey.")
    edit(model / "tokenizer.json", normalizer={"type": "Lowercase"})
    said = notices(model, tiny_base)
    assert "chat template differs" in said
    assert "'normalizer'" in said


def test_merges_in_either_form_are_the_same(tiny_base: Inspected) -> None:
    def merged(merges: object) -> Inspected:
        model = {**tiny_base.tokenizer.definition["model"], "merges": merges}
        tokenizer = dataclasses.replace(
            tiny_base.tokenizer, definition={**tiny_base.tokenizer.definition, "model": model}
        )
        card = tiny_base.card.model_copy(update={"content_digest": str(merges)})
        return dataclasses.replace(tiny_base, tokenizer=tokenizer, card=card)

    assert check_lineage(merged(["a b"]), merged([["a", "b"]])) == ()
    assert "'merges'" in " ".join(check_lineage(merged(["a b"]), merged([["b", "a"]])))
    assert "'merges'" in " ".join(check_lineage(merged([7]), merged(5)))


def lora(adapter: Path, change: Callable[[Tensors], object]) -> None:
    rewrite(adapter / "adapter_model.safetensors", change)


def first(tensors: Tensors, part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def test_adapter_fits_its_base(tiny_base: Inspected, adapter: Path) -> None:
    assert check_lineage(inspect_model(adapter, base=tiny_base), tiny_base) == ()


def test_adapter_of_a_wider_base(tiny_base: Inspected, tmp_path: Path) -> None:
    wide = make_tiny_model(tmp_path / tiny_base.path.name, d_model=64)
    adapter = make_tiny_adapter(wide, tmp_path / "adapter")
    refuse(adapter, AdapterBaseMismatch, "model.layers.0.self_attn.q_proj", "[2, 64]", "[rank, 32]", base=tiny_base)


def test_adapter_of_a_deeper_base(tiny_base: Inspected, tmp_path: Path) -> None:
    deep = make_tiny_model(tmp_path / tiny_base.path.name, layers=3)
    adapter = make_tiny_adapter(deep, tmp_path / "adapter")
    refuse(adapter, AdapterBaseMismatch, "model.layers.2.self_attn", "does not have", base=tiny_base)


def test_adapter_rank_is_the_configured_one(tiny_base: Inspected, adapter: Path) -> None:
    edit(adapter / "adapter_config.json", r=4)
    refuse(adapter, AdapterBaseMismatch, "lora_A", "rank 4", base=tiny_base)
    edit(adapter / "adapter_config.json", rank_pattern={"q_proj": 2, "v_proj": 2})
    assert inspect_model(adapter, base=tiny_base).card.kind == "adapter"


def test_half_a_pair(tiny_base: Inspected, adapter: Path) -> None:
    lora(adapter, lambda tensors: tensors.pop(first(tensors, "lora_B")))
    refuse(adapter, IncompleteModelError, "lora_A", "without", "lora_B", base=tiny_base)


def test_a_pair_of_two_ranks(tiny_base: Inspected, adapter: Path) -> None:
    edit(adapter / "adapter_config.json", rank_pattern={"q_proj": 1})
    lora(adapter, lambda tensors: tensors.update({(name := first(tensors, "lora_A")): tensors[name][:1].copy()}))
    refuse(adapter, AdapterBaseMismatch, "lora_A", "[1, 32]", base=tiny_base)


def test_no_matrices(tiny_base: Inspected, adapter: Path) -> None:
    save_file({}, adapter / "adapter_model.safetensors")
    refuse(adapter, IncompleteModelError, "holds no LoRA matrices", base=tiny_base)


def test_tensor_outside_the_model(tiny_base: Inspected, adapter: Path) -> None:
    lora(adapter, lambda tensors: tensors.update(stray=np.zeros(2, np.float32)))
    refuse(adapter, AdapterBaseMismatch, "'stray'", "base_model.model.", base=tiny_base)


EXTRAS = {
    "lm_head.weight": ((VOCABULARY, 32), (VOCABULARY, 16)),
    "model.norm.weight": ((32,), (31,)),
    "model.embed_tokens.token_adapter.trainable_tokens_delta": ((3, 32), (3, 33)),
    "model.layers.0.self_attn.q_proj.lora_magnitude_vector": ((32,), (31,)),
    "model.layers.0.self_attn.q_proj.lora_B.bias": ((32,), (31,)),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_whole_tensors_must_fit(tiny_base: Inspected, adapter: Path, name: str) -> None:
    good, bad = EXTRAS[name]
    lora(adapter, lambda tensors: tensors.update({f"base_model.model.{name}": np.ones(good, np.float32)}))
    inspect_model(adapter, base=tiny_base)
    lora(adapter, lambda tensors: tensors.update({f"base_model.model.{name}": np.ones(bad, np.float32)}))
    module = name.split(".lora_")[0].split(".token_adapter")[0]
    refuse(adapter, AdapterBaseMismatch, module, str(list(bad)), base=tiny_base)


def test_embedding_matrices_fit_the_other_way_round(tiny_base: Inspected, adapter: Path) -> None:
    def embed(tensors: Tensors) -> None:
        prefix = "base_model.model.model.embed_tokens."
        tensors[prefix + "lora_embedding_A"] = np.ones((2, VOCABULARY), np.float32)
        tensors[prefix + "lora_embedding_B"] = np.ones((32, 2), np.float32)

    lora(adapter, embed)
    assert inspect_model(adapter, base=tiny_base).card.kind == "adapter"


def test_saved_tensor_that_the_base_lacks(tiny_base: Inspected, adapter: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.bias"
    lora(adapter, lambda tensors: tensors.update({name: np.ones(32, np.float32)}))
    refuse(adapter, AdapterBaseMismatch, "q_proj.bias", "does not have", base=tiny_base)


def test_adapter_of_another_name(tiny_base: Inspected, adapter: Path) -> None:
    edit(adapter / "adapter_config.json", base_model_name_or_path="org/Other-7B")
    refuse(adapter, AdapterBaseMismatch, "'org/Other-7B'", "'tiny-base'", "--base-name 'Other-7B'", base=tiny_base)


@pytest.mark.parametrize("name", ["org/TINY-base", "/somewhere/tiny-base/", "models--org--tiny-base/snapshots/0a1b"])
def test_names_that_agree(tiny_base: Inspected, adapter: Path, name: str) -> None:
    edit(adapter / "adapter_config.json", base_model_name_or_path=name)
    assert inspect_model(adapter, base=tiny_base).card.kind == "adapter"


def test_the_caller_may_name_the_base(tiny_base: Inspected, adapter: Path) -> None:
    edit(adapter / "adapter_config.json", base_model_name_or_path="org/Other-7B")
    for name in ("Other-7B", "org/other-7b"):
        assert inspect_model(adapter, base=tiny_base, base_name=name).card.kind == "adapter"
    with pytest.raises(AdapterBaseMismatch):
        inspect_model(adapter, base=tiny_base, base_name="Third-7B")


def test_the_base_may_name_itself(model: Path, adapter: Path, tmp_path: Path) -> None:
    edit(adapter / "adapter_config.json", base_model_name_or_path="org/tiny")
    cached = inspect_model(hub_cache(model, tmp_path / "cache"))
    assert inspect_model(adapter, base=cached).card.kind == "adapter"
    edit(model / "config.json", _name_or_path="org/tiny")
    assert inspect_model(adapter, base=inspect_model(model)).card.kind == "adapter"


@pytest.mark.parametrize("name", [None, "", "/"])
def test_adapter_that_names_no_base(tiny_base: Inspected, adapter: Path, name: str | None) -> None:
    edit(adapter / "adapter_config.json", base_model_name_or_path=name)
    assert "does not name the adapter's base" in notices(adapter, tiny_base)


def test_unknown_adapter_settings_are_a_notice(tiny_base: Inspected, adapter: Path) -> None:
    edit(adapter / "adapter_config.json", surprise=1)
    assert "unknown keys: 'surprise'" in notices(adapter, tiny_base)


def test_every_setting_of_peft_is_known() -> None:
    assert {field.name for field in dataclasses.fields(LoraConfig)} - KNOWN_KEYS == set()
