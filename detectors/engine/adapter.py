"""A LoRA adapter's configuration and tensors, and whether they fit the base that they are put on.

Low-Rank Adaptation: Hu et al. 2021, arXiv 2106.09685: W + (alpha / r) B A with A [r, in] and B [out, r]. An adapter on
another base of the same sizes loads without complaint and is noise, so its base's name must agree as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from detectors.engine.checkpoint import Inspected, TensorInfo
from detectors.engine.files import listed, quoted, refuse_redirects
from detectors.errors import AdapterBaseMismatch, IncompleteModelError, UnsafeFileError, UnsupportedModelError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
COSMETIC = frozenset(
    {"base_model_name_or_path", "revision", "peft_version", "inference_mode", "lora_dropout", "auto_mapping"}
)
"""Keys that do not change what the merged model computes; all others enter the content digest."""

UNSUPPORTED = (
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "velora_config",
    "monteclora_config",
)
"""Variants that change the base's structure or act on some tokens only; merging them would scan another model."""
KNOWN_KEYS = frozenset(UNSUPPORTED) | {
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out"),
    *("bias", "lora_bias", "use_rslora", "use_dora", "modules_to_save", "init_lora_weights", "layers_to_transform"),
    *("layers_pattern", "rank_pattern", "alpha_pattern", "megatron_config", "megatron_core", "loftq_config"),
    *("eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size"),
    *("trainable_token_indices", "ensure_weight_tying"),
}
LORA = re.compile(
    r"\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_B\.bias|lora_magnitude_vector)(\.weight)?$"
)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Whether an adapter_config.json is that of a plain LoRA adapter and leads nowhere else.

    Raises:
        UnsafeFileError: if it names code to import.
        UnsupportedModelError: if it is no LoRA adapter, or a variant that is not read.
        IncompleteModelError: if it has no rank.
    """
    refuse_redirects(settings, CONFIG)
    mapping = settings.get("auto_mapping")
    library = (mapping.get("parent_library") if isinstance(mapping, dict) else mapping) or "transformers"
    if settings.get("megatron_config"):
        library = settings.get("megatron_core")
    if settings.get("megatron_config") or not re.match(r"transformers(\.|$)", str(library)):
        raise UnsafeFileError(
            f"{CONFIG} names a Python module to import ({quoted(library)}); "
            "wanted none: remove `megatron_config` and `auto_mapping`"
        )
    if settings.get("peft_type") != "LORA":
        raise UnsupportedModelError(
            f"{CONFIG} has peft_type {quoted(settings.get('peft_type'))}, wanted 'LORA'; "
            "merge the adapter into its base and scan the full model"
        )
    used = [key for key in UNSUPPORTED if settings.get(key)]
    if used:
        raise UnsupportedModelError(
            f"{CONFIG} uses {', '.join(used)}, which is not read yet; wanted plain LoRA, rsLoRA or DoRA"
        )
    if type(settings.get("r")) is not int or settings["r"] < 1:
        raise IncompleteModelError(f"{CONFIG} has r {quoted(settings.get('r'))}, wanted the rank, from 1; restore it")


def settings_parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that enter the content digest. Lists of names are sorted: peft writes them from sets."""
    return {key: _unordered(value) for key, value in settings.items() if key not in COSMETIC and value is not None}


def _unordered(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


def check_adapter(adapter: Inspected, base: Inspected, base_name: str | None = None) -> tuple[str, ...]:
    """Whether an adapter was made for a base: its name for it, its modules, their shapes.

    Args:
        base_name: what the caller says the base is called, where its directory is called otherwise.

    Returns:
        Notices.

    Raises:
        AdapterBaseMismatch: if the names disagree or a tensor does not fit.
        IncompleteModelError: if half of a pair of matrices is missing, or there are none.
    """
    settings = adapter.adapter_config or {}
    _check_fit(adapter.tensors, settings, base)
    unknown = sorted(settings.keys() - KNOWN_KEYS)
    notices = [f"{CONFIG} has unknown keys: {listed(unknown)}. They are ignored."] if unknown else []
    return (*_check_name(settings, base, base_name), *notices)


def _check_name(settings: Mapping[str, Any], base: Inspected, base_name: str | None) -> tuple[str, ...]:
    wanted = settings.get("base_model_name_or_path")
    if not isinstance(wanted, str) or not wanted.strip("/\\ "):
        return (f"{CONFIG} does not name the adapter's base; only the shapes show that they belong together.",)
    references = [base_name, str(base.path), str(base.path.resolve()), base.config.get("_name_or_path")]
    known = {name for reference in references if isinstance(reference, str) for name in _names(reference)}
    if known.isdisjoint(_names(wanted)):
        raise AdapterBaseMismatch(
            f"the adapter was made for {quoted(wanted)}, the base given is {listed(known)}; give that base, or, if "
            f"they are the same model, say so with `--base-name {quoted(_last(wanted), 80)}`"
        )
    return ()


def _last(reference: str) -> str:
    return re.split(r"[/\\]", reference.rstrip("/\\ "))[-1]


def _names(reference: str) -> set[str]:
    """Names that a path or hub id may stand for: its last part, and the model of a Hugging Face cache."""
    cached = [part.split("--")[-1] for part in re.split(r"[/\\]", reference) if part.startswith("models--")]
    return {name.casefold() for name in (_last(reference), *cached) if name}


def _check_fit(tensors: Mapping[str, TensorInfo], settings: Mapping[str, Any], base: Inspected) -> None:
    outside = [name for name in tensors if not name.startswith(PREFIX)]
    if outside:
        raise AdapterBaseMismatch(
            f"{WEIGHTS} has tensors whose names do not start with {PREFIX!r}: {listed(outside)}; "
            "save the adapter with peft"
        )
    shapes = {name.removeprefix(PREFIX): info.shape for name, info in tensors.items()}
    if not any(LORA.search(name) for name in shapes):
        raise IncompleteModelError(f"{WEIGHTS} holds no LoRA matrices; save the adapter again")
    swapped = bool(settings.get("fan_in_fan_out")) or base.config.get("model_type") == "gpt2"
    for name, shape in shapes.items():
        found = LORA.search(name)
        if found is None:
            _check_whole(name, shape, base)
            continue
        module = name[: found.start()]
        weight = _base_shape(f"{module}.weight", module, base)
        _check_part(module, found["part"], shape, weight[::-1] if swapped else weight, _ranks(settings))
        _check_pair(shapes, name)


def _ranks(settings: Mapping[str, Any]) -> set[int]:
    pattern = settings.get("rank_pattern")
    special = pattern.values() if isinstance(pattern, dict) else ()
    return {rank for rank in (settings["r"], *special) if isinstance(rank, int)}


def _base_shape(name: str, module: str, base: Inspected) -> tuple[int, ...]:
    """Shape of a base's tensor; a tied output layer has that of the embedding."""
    info = base.tensors.get(name)
    if info is None and name == "lm_head.weight":
        info = next((info for key, info in base.tensors.items() if key.endswith("embed_tokens.weight")), None)
    if info is None:
        raise AdapterBaseMismatch(
            f"the adapter changes {quoted(module)}, which the base {quoted(base.path.name)} does not have; "
            "give the base that the adapter was trained on"
        )
    return info.shape


def _check_part(module: str, part: str, shape: tuple[int, ...], weight: tuple[int, ...], ranks: set[int]) -> None:
    if len(weight) != 2:
        raise _misfit(module, part, shape, f"a matrix in the base, which has {list(weight)}")
    out_features, in_features = weight[::-1] if "embedding" in part else weight
    if part.endswith("A"):
        fits, wanted = len(shape) == 2 and shape[0] in ranks and shape[1] == in_features, f"[rank, {in_features}]"
    elif part.endswith("B"):
        fits, wanted = len(shape) == 2 and shape[1] in ranks and shape[0] == out_features, f"[{out_features}, rank]"
    else:
        fits, wanted = math.prod(shape) == out_features, f"[{out_features}]"
    if not fits:
        raise _misfit(module, part, shape, f"{wanted} with rank {' or '.join(map(str, sorted(ranks)))}")


def _misfit(module: str, part: str, shape: tuple[int, ...], wanted: str) -> AdapterBaseMismatch:
    return AdapterBaseMismatch(
        f"{part} of module {quoted(module)} has shape {list(shape)}, wanted {wanted}; "
        "give the base that the adapter was trained on"
    )


def _check_pair(shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    for one, other, axis in (("lora_A", "lora_B", 0), ("lora_embedding_A", "lora_embedding_B", 0)):
        if f".{one}" not in name and not re.search(rf"\.{other}(\.weight)?$", name):
            continue
        first, second = name.replace(f".{other}", f".{one}"), name.replace(f".{one}", f".{other}")
        if first not in shapes or second not in shapes:
            raise IncompleteModelError(
                f"{WEIGHTS} has {quoted(name)} without {quoted(second if name == first else first)}; "
                "save the adapter again"
            )
        if shapes[first][axis] != shapes[second][1 - axis]:
            raise _misfit(first, one, shapes[first], f"the rank of its {other}, {list(shapes[second])}")


def _check_whole(name: str, shape: tuple[int, ...], base: Inspected) -> None:
    """A tensor that replaces the base's (`modules_to_save`, a bias), or some rows of an embedding."""
    tokens = re.search(r"(\.token_adapter)?\.trainable_tokens_delta$", name)
    module = name[: tokens.start()] if tokens else name
    wanted = _base_shape(f"{module}.weight" if tokens else name, module, base)
    if tokens:
        wanted = (*shape[:1], *wanted[1:])
    if shape != wanted:
        raise _misfit(module, "the saved tensor", shape, str(list(wanted)))
