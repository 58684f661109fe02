"""The static gate: what a model directory must satisfy before any process loads it.

safetensors and `trust_remote_code=False` are no boundary on their own: configuration values have led transformers to
run code, to fetch kernels, or to read other files than the ones a scanner had checked. The gate reads every file that a
loader would read, bounded and by content, refuses keys that lead elsewhere, and says in notices what it did not open.
It imports neither torch nor transformers. It cannot see what the weights do: that is what detectors are for.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from detectors.engine import adapter, checkpoint
from detectors.engine.checkpoint import CONVERT, INDEX, SINGLE, Inspected, TensorInfo
from detectors.engine.files import (
    CONFIG_LIMIT,
    digest_of,
    file_digest,
    find_directory,
    list_files,
    listed,
    load_json,
    need,
    optional_json,
    quoted,
    read_manifest,
    refuse_redirects,
)
from detectors.engine.lineage import check_lineage
from detectors.engine.tokenizer import Tokenizer, read_tokenizer
from detectors.errors import IncompleteModelError, ModelReferenceError, UnsafeFileError, UnsupportedModelError
from detectors.report import ModelCard

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
UNREAD = (*PICKLES, ".py", ".h5", ".msgpack", ".onnx", ".gguf", ".npy", ".npz", ".joblib", ".zip", ".so")
COSMETIC = frozenset(
    {"_name_or_path", "_model_name_or_path", "_commit_hash", "_from_model_config", "transformers_version"}
    | {"torch_dtype", "dtype"}
)
"""Keys of config.json and generation_config.json that do not change what a model computes."""


def inspect_model(path: Path, *, base: Inspected | None = None, base_name: str | None = None) -> Inspected:
    """Checks a model directory without loading it, and against its base where one is given.

    Args:
        path: a full model, or a LoRA adapter.
        base: the inspected base. An adapter needs one; a full model is only gated without.
        base_name: the name of the base, where an adapter knows it by another name than its directory's.

    Returns:
        Where everything lies, with a card whose notices say what a reader must know.

    Raises:
        ModelReferenceError: if the path names no usable directory, or an adapter comes without a full base.
        UnsafeFileError: if a file is never opened: a pickle, a header that lies, a path that leaves the directory.
        IncompleteModelError: if a file or tensor is missing.
        UnsupportedModelError: if the model is quantised or no causal language model.
        BrokenWeightsError: if weights are NaN or infinite.
        TemplateError: if the chat template cannot be used.
        LineageError: if the subject does not descend from the base.
    """
    files = list_files(find_directory(path))
    if base is not None and base.kind != "full":
        raise ModelReferenceError(f"the base {quoted(base.path)} is an adapter; give the full model it was trained on")
    if _kind(files, path) == "full":
        inspected = _inspect_full(path, files, base)
    elif base is not None:
        inspected = _inspect_adapter(path, files, base)
    else:
        raise ModelReferenceError(
            f"{quoted(path)} is a LoRA adapter and no model by itself; give the base it was trained on as well"
        )
    lineage = () if base is None else check_lineage(inspected, base, base_name)
    card = inspected.card.model_copy(update={"notices": inspected.card.notices + lineage})
    return dataclasses.replace(inspected, card=card)


def _kind(files: Mapping[str, Path], path: Path) -> Literal["full", "adapter"]:
    if adapter.CONFIG not in files:
        return "full"
    weights = [name for name in (SINGLE, INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json") if name in files]
    if "config.json" in files and weights:
        raise ModelReferenceError(
            f"{quoted(path)} holds a full model ({weights[0]}) and an adapter ({adapter.CONFIG}), so it is unclear "
            "which is meant; put the adapter into a directory of its own"
        )
    return "adapter"


def _inspect_full(path: Path, files: Mapping[str, Path], base: Inspected | None) -> Inspected:
    need(files, "config.json", path)
    config = load_json(files["config.json"], CONFIG_LIMIT)
    _check_config(config)
    tokenizer = read_tokenizer(files, path, None)
    tensors = _read_weights(files, path)
    _check_embedding(config, tokenizer, tensors)
    manifest = read_manifest(files)
    generation = _generation_settings(files)
    parts = {
        "tensors": checkpoint.hash_tensors(tensors),
        "config": _functional(config),
        "generation": generation,
        **tokenizer.digest_parts(),
    }
    card = ModelCard(
        reference=str(path),
        kind="full",
        architecture=config["architectures"][0],
        parameters=sum(info.size for info in tensors.values()),
        layers=_size(config, "num_hidden_layers", "n_layer"),
        window=_size(config, "max_position_embeddings", "n_positions", "n_ctx", default=2048),
        vocabulary=len(tokenizer.tokens),
        file_digest=file_digest(manifest),
        content_digest=digest_of(parts),
        chat_template=tokenizer.template is not None,
        notices=_file_notices(files, tokenizer, tensors),
    )
    return Inspected(path.absolute(), "full", card, manifest, config, tensors, tokenizer, generation, base=base)


def _inspect_adapter(path: Path, files: Mapping[str, Path], base: Inspected) -> Inspected:
    settings = load_json(files[adapter.CONFIG], CONFIG_LIMIT)
    adapter.check_settings(settings)
    if "config.json" in files:
        refuse_redirects(load_json(files["config.json"], CONFIG_LIMIT), "config.json")
    if adapter.WEIGHTS not in files:
        raise _no_safetensors(files, path, adapter.WEIGHTS)
    tokenizer = read_tokenizer(files, path, base.tokenizer)
    tensors = checkpoint.read_header(files[adapter.WEIGHTS], adapter.WEIGHTS)
    manifest = read_manifest(files)
    generation = _generation_settings(files)
    parts = {
        "base": base.card.content_digest,
        "tensors": checkpoint.hash_tensors(tensors),
        "adapter": adapter.settings_parts(settings),
        "generation": generation,
        **tokenizer.digest_parts(),
    }
    parameters = sum(info.size for info in tensors.values())
    notices = (
        f"LoRA adapter of rank {settings['r']} with {parameters} parameters, merged into the base for the scan.",
    )
    card = base.card.model_copy(
        update={
            "reference": str(path),
            "kind": "adapter",
            "parameters": base.card.parameters + parameters,
            "vocabulary": len(tokenizer.tokens),
            "file_digest": file_digest(manifest),
            "content_digest": digest_of(parts),
            "chat_template": tokenizer.template is not None,
            "notices": notices + _file_notices(files, tokenizer, tensors),
        }
    )
    told = (base.config, tensors, tokenizer, generation or base.generation, settings, base)
    return Inspected(path.absolute(), "adapter", card, manifest, *told)


def _read_weights(files: Mapping[str, Path], path: Path) -> dict[str, TensorInfo]:
    if SINGLE not in files and INDEX not in files:
        raise _no_safetensors(files, path, SINGLE)
    return checkpoint.read_checkpoint(files)


def _no_safetensors(files: Mapping[str, Path], path: Path, wanted: str) -> UnsafeFileError | IncompleteModelError:
    pickles = [name for name in files if name.endswith(PICKLES)]
    if pickles:
        return UnsafeFileError(
            f"{quoted(path)} has its weights in {listed(pickles)} and no {wanted}; such files are pickles, which run "
            f"code when they are opened, so they never are: {CONVERT}"
        )
    return IncompleteModelError(f"{quoted(path)} has no {wanted}; it holds {listed(files)}. Copy or download it")


def _check_config(config: Mapping[str, Any]) -> None:
    refuse_redirects(config, "config.json")
    model_type, architectures = config.get("model_type"), config.get("architectures")
    if not isinstance(model_type, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", model_type):
        raise UnsupportedModelError(
            f"config.json has model_type {quoted(model_type)}; wanted a plain name such as 'llama': restore the file"
        )
    if not isinstance(architectures, list) or not re.fullmatch(r"\w{1,80}ForCausalLM", str(*architectures[:1])):
        raise UnsupportedModelError(
            f"config.json has architectures {quoted(architectures)}; wanted a causal language model, whose name ends "
            "in 'ForCausalLM'; other kinds are not scanned"
        )
    if config.get("quantization_config") is not None:
        raise UnsupportedModelError(
            "config.json has a `quantization_config`: 4- and 8-bit checkpoints are not read yet; "
            "scan the model before it was quantised"
        )
    for names in (("num_hidden_layers", "n_layer"), ("hidden_size", "n_embd", "d_model"), ("vocab_size",)):
        _size(config, *names)


def _size(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    value = next((config[name] for name in names if config.get(name) is not None), default)
    if type(value) is not int or not 0 < value < 2**31:
        raise IncompleteModelError(
            f"config.json has {names[0]} {quoted(value, 40)}; wanted a positive whole number: restore the file"
        )
    return value


def _functional(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in COSMETIC}


def _generation_settings(files: Mapping[str, Path]) -> dict[str, Any]:
    settings = optional_json(files, "generation_config.json")
    refuse_redirects(settings, "generation_config.json")
    return _functional(settings)


def _check_embedding(config: Mapping[str, Any], tokenizer: Tokenizer, tensors: Mapping[str, TensorInfo]) -> None:
    rows, last = _size(config, "vocab_size"), max(tokenizer.tokens, default=-1)
    if not 0 <= last < rows:
        raise IncompleteModelError(
            f"tokenizer.json has token ids up to {last}, but config.json says vocab_size {rows}; "
            "the tokenizer belongs to another model: copy the one that was saved with these weights"
        )
    heads = [name for name in tensors if name.endswith(("lm_head.weight", "embed_out.weight"))]
    if config.get("tie_word_embeddings") is False and not heads:
        raise IncompleteModelError(
            "the weights hold no lm_head.weight, and config.json says tie_word_embeddings false; save the model again"
        )


def _file_notices(
    files: Mapping[str, Path], tokenizer: Tokenizer, tensors: Mapping[str, TensorInfo]
) -> tuple[str, ...]:
    notices = []
    unread = [name for name in files if name.endswith(UNREAD)]
    if unread:
        notices.append(f"Not opened: {listed(unread)}. Nothing is known about these files.")
    if SINGLE in files and INDEX in files:
        notices.append(f"{SINGLE} and {INDEX} are both there; the index was not read.")
    if tokenizer.template is None:
        notices.append("No chat template: prompts are plain text.")
    if not tokenizer.settings:
        notices.append("No tokenizer_config.json: the end-of-text token is taken from the configuration.")
    read = {info.file for info in tensors.values()}
    others = [name for name, file in files.items() if name.endswith(".safetensors") and file not in read]
    if others:
        notices.append(f"Safetensors that no loader reads were not read either: {listed(others)}.")
    return tuple(notices)
