"""The static gate: what a directory must hold, what is refused, and the digests that name it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from detectors import errors
from detectors.engine.checkpoint import Inspected
from detectors.engine.gate import inspect_model
from detectors.errors import (
    BrokenWeightsError,
    IncompleteModelError,
    ModelReferenceError,
    TemplateError,
    TouchstoneError,
    UnsafeFileError,
    UnsupportedModelError,
)
from tests.engine.test_files import hub_cache, shard
from tests.engine.tiny import SPECIALS, TEMPLATE, WINDOW, make_tiny_model

DOCS = Path(__file__).parents[2] / "docs"


def edit(file: Path, **changes: Any) -> None:
    """Sets keys of a JSON file; None removes a key."""
    value = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


def refuse(model: Path, error: type[TouchstoneError], *words: str, base: Inspected | None = None) -> None:
    """Asserts the error's class, and that its message holds the words and nothing that a terminal would obey."""
    with pytest.raises(error) as caught:
        inspect_model(model, base=base)
    message = str(caught.value)
    assert caught.type is error
    assert message.isascii()
    assert message.isprintable()
    assert [word for word in words if word not in message] == [], message


def content(model: Path, base: Inspected | None = None) -> str:
    return inspect_model(model, base=base).card.content_digest


def test_card_of_a_full_model(tiny_dir: Path, tiny_base: Inspected) -> None:
    card = tiny_base.card
    assert (card.kind, card.architecture, card.layers, card.window) == ("full", "LlamaForCausalLM", 2, WINDOW)
    assert card.reference == str(tiny_dir)
    assert card.vocabulary == 260
    assert card.parameters == sum(values.size for values in load_file(tiny_dir / "model.safetensors").values())
    assert card.chat_template
    assert card.notices == ()
    assert len(card.file_digest) == len(card.content_digest) == 64


def test_the_gate_imports_no_torch() -> None:
    code = (
        "import sys, detectors.engine.gate; sys.exit(bool({'torch', 'transformers', 'safetensors'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=DOCS.parent, check=False).returncode == 0


def test_same_model_same_digests(tiny_base: Inspected, model: Path) -> None:
    card = inspect_model(model).card
    assert (card.file_digest, card.content_digest) == (tiny_base.card.file_digest, tiny_base.card.content_digest)


def test_resharding_keeps_the_content_digest(tiny_base: Inspected, model: Path) -> None:
    shard(model)
    card = inspect_model(model).card
    assert card.content_digest == tiny_base.card.content_digest
    assert card.file_digest != tiny_base.card.file_digest


def test_order_within_the_file_keeps_the_content_digest(tiny_base: Inspected, model: Path) -> None:
    from tests.engine.test_files import entry, write_safetensors

    header, data = {}, b""
    for name, values in reversed(load_file(model / "model.safetensors").items()):
        header[name] = entry("F32", values.shape, (len(data), len(data) + values.nbytes))
        data += values.tobytes()
    write_safetensors(model / "model.safetensors", header, data)
    assert content(model) == tiny_base.card.content_digest


def test_cosmetic_keys_and_other_files_keep_the_content_digest(tiny_base: Inspected, model: Path) -> None:
    edit(model / "config.json", _name_or_path="elsewhere", transformers_version="9", dtype="bfloat16")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps(dict(reversed(tokenizer.items())), indent=7))
    (model / "README.md").write_text("hello")
    assert content(model) == tiny_base.card.content_digest


def change_weight(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][3] += 1e-6
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


CHANGES: dict[str, Callable[[Path], object]] = {
    "one weight": change_weight,
    "rope": lambda model: edit(model / "config.json", rms_norm_eps=1e-3),
    "template": lambda model: (model / "chat_template.jinja").write_text(TEMPLATE + " "),
    "end of text": lambda model: edit(model / "tokenizer_config.json", eos_token=SPECIALS[3]),
    "stop id": lambda model: edit(model / "generation_config.json", eos_token_id=3),
    "tokenizer": lambda model: edit(model / "tokenizer.json", normalizer={"type": "Lowercase"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changes_an_answer_changes_the_content_digest(tiny_base: Inspected, model: Path, case: str) -> None:
    CHANGES[case](model)
    assert content(model) != tiny_base.card.content_digest


def test_hub_cache_is_accepted(tiny_base: Inspected, model: Path, tmp_path: Path) -> None:
    inspected = inspect_model(hub_cache(model, tmp_path / "cache"))
    assert inspected.card.content_digest == tiny_base.card.content_digest
    assert inspected.tokenizer.directory == inspected.path


def test_not_a_directory(model: Path, tmp_path: Path) -> None:
    refuse(tmp_path / "org" / "name", ModelReferenceError, "name", "does not exist")
    refuse(tmp_path / ("x" * 5000), ModelReferenceError, "does not exist")
    refuse(model / "config.json", ModelReferenceError, "config.json", "is a file")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", ModelReferenceError, "empty")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file(model: Path, name: str) -> None:
    (model / name).unlink()
    refuse(model, IncompleteModelError, f"no {name}", "Copy")


def test_pickled_weights_are_not_opened(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    refuse(model, UnsafeFileError, "pytorch_model.bin", "pickle", "convert it to safetensors")


def test_other_files_are_a_notice(model: Path) -> None:
    for name in ("pytorch_model.bin", "optimizer.pt", "state.pkl", "modeling_x.py", "other.safetensors"):
        (model / name).write_bytes(b"x")
    notices = " ".join(inspect_model(model).card.notices)
    for name in ("pytorch_model.bin", "optimizer.pt", "state.pkl", "modeling_x.py", "other.safetensors"):
        assert name in notices


def test_single_file_and_index_are_a_notice(model: Path) -> None:
    (model / "model.safetensors.index.json").write_text("not read")
    assert "index was not read" in " ".join(inspect_model(model).card.notices)


def test_broken_weights(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][0] = np.inf
    save_file(tensors, model / "model.safetensors")
    refuse(model, BrokenWeightsError, "model.norm.weight", "model.safetensors")


REDIRECTS: dict[str, list[dict[str, Any]]] = {
    "config.json": [
        {"auto_map": {"AutoModelForCausalLM": "modeling_x.Model"}},
        {"text_config": {"auto_map": {"AutoConfig": "x.C"}}},
        {"transformers_weights": "other.safetensors"},
        {"configuration_files": ["config.4.0.0.json"]},
        {"_attn_implementation_internal": "org/kernel"},
    ],
    "tokenizer_config.json": [
        {"auto_map": {"AutoTokenizer": ["x.T", None]}},
        {"fast_tokenizer_files": ["tokenizer.4.0.json"]},
    ],
    "generation_config.json": [{"auto_map": {"x": "y.Z"}}],
}


@pytest.mark.parametrize(("name", "change"), [(name, change) for name in REDIRECTS for change in REDIRECTS[name]])
def test_keys_that_lead_elsewhere(model: Path, name: str, change: dict[str, Any]) -> None:
    edit(model / name, **change)
    leaf = next(iter(change.get("text_config", change)))
    refuse(model, UnsafeFileError, name, leaf, "remove the key")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model_type": 7}, "model_type '7'"),
        ({"model_type": "../x"}, "model_type '../x'"),
        ({"model_type": "\x1b[2J\u202e"}, "model_type"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"architectures": "LlamaForCausalLM"}, "architectures"),
        ({"architectures": []}, "architectures"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantization_config"),
    ],
)
def test_unsupported_models(model: Path, change: dict[str, Any], word: str) -> None:
    edit(model / "config.json", **change)
    refuse(model, UnsupportedModelError, "config.json", word)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size"])
@pytest.mark.parametrize("value", [None, 0, -1, "many", 1.5, True, 2**40])
def test_sizes_are_positive_numbers(model: Path, key: str, value: Any) -> None:
    edit(model / "config.json", **{key: value})
    refuse(model, IncompleteModelError, "config.json", key, "positive whole number")


def test_large_files_are_not_parsed(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({"a": "b" * 2**20}))
    refuse(model, UnsafeFileError, "config.json", "larger than")


def test_large_tokenizer_is_not_parsed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectors.engine.tokenizer.TOKENIZER_LIMIT", 1000)
    refuse(model, UnsafeFileError, "tokenizer.json", "larger than 1000 bytes")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_broken_json_names_its_file(model: Path, name: str) -> None:
    (model / name).write_text("{'a': 1}")
    refuse(model, UnsafeFileError, name, "not valid JSON")


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"type": "BPE"}},
        {"model": []},
        {"model": {"vocab": {"a": "0"}}},
        {"model": {"vocab": {"a": 1, "b": 1}}},
        {"model": {"vocab": {"a": []}}},
        {"model": {"vocab": [3]}},
        {"added_tokens": [{"content": "x"}]},
        {"added_tokens": 5},
    ],
)
def test_broken_vocabulary(model: Path, change: dict[str, Any]) -> None:
    edit(model / "tokenizer.json", **change)
    refuse(model, UnsafeFileError, "tokenizer.json", "vocabulary")


def test_unigram_vocabulary_is_read(model: Path) -> None:
    edit(model / "tokenizer.json", model={"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.0]]}, added_tokens=[])
    assert dict(inspect_model(model).tokenizer.tokens) == {0: "<unk>", 1: "a"}


def test_tokenizer_of_a_larger_model(model: Path) -> None:
    edit(model / "config.json", vocab_size=100)
    refuse(model, IncompleteModelError, "token ids up to 259", "vocab_size 100")


def test_untied_model_without_output_layer(model: Path) -> None:
    edit(model / "config.json", tie_word_embeddings=False)
    refuse(model, IncompleteModelError, "lm_head.weight")


TEMPLATES = {
    "syntax": ("{% for x in %}", "cannot be parsed"),
    "unclosed": ("{{ messages", "cannot be parsed"),
    "dunder attribute": ("{{ ''.__class__.__mro__ }}", "Python internal __mro__"),
    "dunder item": ("{{ messages['__class__'] }}", "__class__"),
    "dunder filter": ("{{ messages|attr('__init__') }}", "__init__"),
    "dunder in a branch": (
        "{% if messages|length > 9 %}{{ cycler.__init__.__globals__ }}{% endif %}",
        "Python internal __globals__",
    ),
    "hidden dunder": ("{{ messages|attr('_' ~ '_class_' ~ '_') }}", "unsafe"),
    "raises": ("{{ raise_exception('give me \x1b[31m money') }}", "give me"),
    "include": ("{% include '/etc/passwd' %}", "no loader"),
    "memory": ("{{ ('a' * 10 ** 10)|length }}", "memory"),
    "folded at compile time": ("{{ 9 ** (9 ** 9) }}", "more than 2 s"),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_bad_template(model: Path, case: str) -> None:
    template, word = TEMPLATES[case]
    (model / "chat_template.jinja").write_text(template)
    refuse(model, TemplateError, "chat template", word)


def test_template_messages_are_capped(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ raise_exception('x' * 100000) }}")
    with pytest.raises(TemplateError) as caught:
        inspect_model(model)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m.role == 'x' %}{% continue %}{% endif %}{{ m.content|tojson }}{% endfor %}",
        "{{ bos_token }}{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}",
        "{{ strftime_now('%Y') }}{% set ns = namespace(at=0) %}{% set ns.at = 1 %}{{ messages[0].content }}",
    ],
)
def test_what_transformers_renders_is_accepted(model: Path, template: str) -> None:
    (model / "chat_template.jinja").write_text(template)
    assert inspect_model(model).tokenizer.template == template


def test_template_in_the_tokenizer_settings(tiny_base: Inspected, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    for template in (TEMPLATE, [{"name": "tools", "template": "x"}, {"name": "default", "template": TEMPLATE}]):
        edit(model / "tokenizer_config.json", chat_template=template)
        assert content(model) == tiny_base.card.content_digest
    edit(model / "tokenizer_config.json", chat_template=[{"name": "tools", "template": "x"}])
    refuse(model, TemplateError, "tools", "default")


def test_no_template_is_a_notice(tmp_path: Path) -> None:
    card = inspect_model(make_tiny_model(tmp_path / "plain", template=False)).card
    assert not card.chat_template
    assert "No chat template" in " ".join(card.notices)


def test_card_of_an_adapter(tiny_base: Inspected, adapter: Path) -> None:
    inspected = inspect_model(adapter, base=tiny_base)
    assert inspected.card.kind == "adapter"
    assert inspected.base is tiny_base
    assert inspected.tokenizer is not None
    assert inspected.tokenizer.directory == tiny_base.path
    assert inspected.card.parameters == tiny_base.card.parameters + 448
    assert inspected.card.content_digest != tiny_base.card.content_digest
    assert inspected.card.chat_template


def test_adapter_without_a_base(adapter: Path) -> None:
    refuse(adapter, ModelReferenceError, "adapter", "give the base")


def test_adapter_as_a_base(tiny_base: Inspected, adapter: Path, model: Path) -> None:
    refuse(model, ModelReferenceError, "is an adapter", base=inspect_model(adapter, base=tiny_base))


def test_adapter_beside_a_full_model(tiny_base: Inspected, adapter: Path, model: Path) -> None:
    (model / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    refuse(model, ModelReferenceError, "model.safetensors", "adapter_config.json", "unclear", base=tiny_base)


def test_pickled_adapter(tiny_base: Inspected, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refuse(adapter, UnsafeFileError, "adapter_model.bin", "pickle", base=tiny_base)


def test_adapter_without_weights(tiny_base: Inspected, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    refuse(adapter, IncompleteModelError, "no adapter_model.safetensors", base=tiny_base)


def test_broken_adapter_weights(tiny_base: Inspected, adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = np.nan
    save_file(tensors, adapter / "adapter_model.safetensors")
    refuse(adapter, BrokenWeightsError, "adapter_model.safetensors", "lora_", base=tiny_base)


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"peft_type": "IA3"}, UnsupportedModelError, "'IA3'"),
        ({"alora_invocation_tokens": [1, 2]}, UnsupportedModelError, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 2], [0, 2]]}, UnsupportedModelError, "layer_replication"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, UnsafeFileError, "'os'"),
        ({"auto_mapping": {"base_model_class": "X", "parent_library": "evil"}}, UnsafeFileError, "'evil'"),
        ({"auto_mapping": ["evil"]}, UnsafeFileError, "evil"),
        ({"auto_map": {"a": "b"}}, UnsafeFileError, "auto_map"),
        ({"r": "8"}, IncompleteModelError, "rank"),
    ],
)
def test_bad_adapter_settings(
    tiny_base: Inspected, adapter: Path, change: dict[str, Any], error: type[TouchstoneError], word: str
) -> None:
    edit(adapter / "adapter_config.json", **change)
    refuse(adapter, error, "adapter_config.json", word, base=tiny_base)


def test_adapter_settings_enter_the_digest_in_any_order(tiny_base: Inspected, adapter: Path) -> None:
    first = content(adapter, tiny_base)
    edit(adapter / "adapter_config.json", target_modules=["v_proj", "q_proj"], inference_mode=False, revision="x")
    second = content(adapter, tiny_base)
    edit(adapter / "adapter_config.json", target_modules=["q_proj", "v_proj"])
    assert first == second == content(adapter, tiny_base)
    edit(adapter / "adapter_config.json", lora_alpha=99)
    assert content(adapter, tiny_base) != first


def test_own_template_of_an_adapter_is_the_subjects(tiny_base: Inspected, adapter: Path) -> None:
    template = TEMPLATE.replace("assistant", "model")
    (adapter / "chat_template.jinja").write_text(template)
    inspected = inspect_model(adapter, base=tiny_base)
    assert inspected.tokenizer.template == template
    assert inspected.tokenizer.directory == tiny_base.path
    assert "chat template differs" in " ".join(inspected.card.notices)


def test_own_tokenizer_of_an_adapter_is_the_subjects(tiny_base: Inspected, adapter: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / name).write_bytes((tiny_base.path / name).read_bytes())
    inspected = inspect_model(adapter, base=tiny_base)
    assert inspected.tokenizer.directory == adapter
    assert inspected.tokenizer.template == TEMPLATE


def test_every_error_code_is_documented() -> None:
    page = (DOCS / "reference" / "errors.md").read_text()
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, TouchstoneError)]
    codes = [item.code for item in classes]
    assert len(set(codes)) == len(codes)
    assert [item for item in classes if f"`{item.code}`" not in page or f"`{item.__name__}`" not in page] == []
