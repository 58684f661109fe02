"""Whether a subject descends from a base: same sizes, same meaning of shared token ids, weights that stayed near.

Fine-tuning moves weights little: the rows of a fine-tuned matrix still point where the base's point, those of a model
trained from another start do not. Measured as the median, over matrices spread through the depth, of the cosine between
sampled rows of both, centred by their mean row so that a shared offset does not count. A lightly noised copy gives more
than 0.99, two tiny models from different seeds less than 0.1 either way (tests/engine/test_lineage.py). Norm vectors
are left out: they are near one in every model. A mixture of two models, or a base pruned anew, is not recognised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.engine.adapter import check_adapter
from detectors.engine.checkpoint import Inspected, TensorInfo, read_rows
from detectors.engine.files import listed, quoted
from detectors.errors import ArchitectureMismatch, IncompleteModelError, UnrelatedWeights, VocabularyMismatch

MIN_SIMILARITY = 0.5
MATRICES = 8
ROWS = 64
SEED = 20250101

IDENTITY = ("model_type", "architectures")
SIZES = (
    *("hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "num_attention_heads", "n_head"),
    *("num_key_value_heads", "intermediate_size", "n_inner", "head_dim", "num_experts", "num_local_experts"),
)
INCIDENTAL = frozenset(
    {*IDENTITY, *SIZES, "_name_or_path", "_model_name_or_path", "_commit_hash", "transformers_version", "torch_dtype"}
    | {"dtype", "use_cache", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"}
)
"""Keys that are compared elsewhere or may differ without a word; a difference in any other is a notice."""


def check_lineage(subject: Inspected, base: Inspected, base_name: str | None = None) -> tuple[str, ...]:
    """Insists that a subject descends from a base.

    Args:
        subject: a full model or an adapter, inspected.
        base: a full model, inspected.
        base_name: the name of the base, where an adapter knows it by another name than its directory's.

    Returns:
        Notices: differences that fine-tuning may leave but a reader must know of, such as another chat template.

    Raises:
        ArchitectureMismatch: if the models are of different architectures or sizes.
        VocabularyMismatch: if a token id that both share stands for different tokens.
        IncompleteModelError: if the subject lacks a tensor that the base has.
        UnrelatedWeights: if the weights do not resemble the base's.
        AdapterBaseMismatch: if an adapter was made for another base.
    """
    if subject.kind == "adapter":
        notices = check_adapter(subject, base, base_name)
        return notices + _check_vocabulary(subject, base) + _text_notices(subject, base)
    notices = _check_architecture(subject, base) + _check_vocabulary(subject, base) + _check_tensors(subject, base)
    if subject.card.content_digest == base.card.content_digest:
        return (*notices, "The subject is the base: weights, tokenizer and template are the same.")
    _check_weights(subject, base)
    return notices + _text_notices(subject, base)


def _check_architecture(subject: Inspected, base: Inspected) -> tuple[str, ...]:
    for key in (*IDENTITY, *SIZES):
        ours, theirs = subject.config.get(key), base.config.get(key)
        if ours != theirs and (key in IDENTITY or (ours is not None and theirs is not None)):
            raise ArchitectureMismatch(
                f"the subject has {key} {quoted(ours, 80)}, the base {quoted(theirs, 80)}; "
                "give the base that the subject was fine-tuned from"
            )
    keys = (subject.config.keys() | base.config.keys()) - INCIDENTAL
    changed = [key for key in keys if subject.config.get(key) != base.config.get(key)]
    return (f"config.json differs from the base's in {listed(changed)}.",) if changed else ()


def _check_vocabulary(subject: Inspected, base: Inspected) -> tuple[str, ...]:
    ours, theirs = subject.tokenizer.tokens, base.tokenizer.tokens
    for number in sorted(ours.keys() & theirs.keys()):
        if ours[number] != theirs[number]:
            raise VocabularyMismatch(
                f"token id {number} is {quoted(ours[number], 80)} in the subject and {quoted(theirs[number], 80)} in "
                "the base; ids that both have must mean the same: give the base that the subject was fine-tuned from"
            )
    notices = []
    added = sorted(ours.keys() - theirs.keys())
    if added:
        notices.append(
            f"Tokens added to the base's vocabulary: {len(added)} ({listed(ours[number] for number in added)})."
        )
    gone = len(theirs.keys() - ours.keys())
    if gone:
        notices.append(f"Tokens of the base that the subject's tokenizer lacks: {gone}.")
    return tuple(notices)


def _check_tensors(subject: Inspected, base: Inspected) -> tuple[str, ...]:
    optional = {"lm_head.weight"} if subject.config.get("tie_word_embeddings") else set()
    missing = sorted(base.tensors.keys() - subject.tensors.keys() - optional)
    if missing:
        raise IncompleteModelError(
            f"the subject lacks {len(missing)} tensors that its architecture needs: {listed(missing)}; "
            "save it again whole"
        )
    for name in sorted(base.tensors.keys() & subject.tensors.keys()):
        ours, theirs = subject.tensors[name].shape, base.tensors[name].shape
        if ours != theirs and not (_is_vocabulary(name) and ours[1:] == theirs[1:]):
            raise ArchitectureMismatch(
                f"tensor {quoted(name)} has shape {list(ours)} in the subject and {list(theirs)} in the base; "
                "give the base that the subject was fine-tuned from"
            )
    extra = sorted(subject.tensors.keys() - base.tensors.keys())
    return (f"Tensors that the base does not have: {listed(extra)}.",) if extra else ()


def _is_vocabulary(name: str) -> bool:
    return re.search(r"(embed_tokens|lm_head|embed_in|embed_out|wte)\.(weight|bias)$", name) is not None


def _check_weights(subject: Inspected, base: Inspected) -> None:
    similarity = weight_similarity(subject.tensors, base.tensors)
    if similarity is not None and not similarity >= MIN_SIMILARITY:
        raise UnrelatedWeights(
            f"the weights resemble the base's by {similarity:.3f} (median cosine of sampled rows), wanted at least "
            f"{MIN_SIMILARITY}; the subject was not trained from this base: give the one it was fine-tuned from"
        )


def weight_similarity(subject: Mapping[str, TensorInfo], base: Mapping[str, TensorInfo]) -> float | None:
    """Median cosine between sampled, centred rows of both models' matrices; 1 is the same, 0 unrelated.

    Returns:
        In [-1, 1]; None where the models share no matrix.
    """
    generator = np.random.default_rng(SEED)
    cosines = []
    for name in _sampled_matrices(subject, base):
        shared = min(subject[name].shape[0], base[name].shape[0])
        rows = np.sort(generator.permutation(shared)[:ROWS]).tolist()
        cosines.append(_cosine(read_rows(subject[name], rows), read_rows(base[name], rows)))
    return float(np.median(cosines)) if cosines else None


def _sampled_matrices(subject: Mapping[str, TensorInfo], base: Mapping[str, TensorInfo]) -> list[str]:
    """The largest matrix (an embedding, as a rule) and others of the larger half, evenly spread over the depth."""
    shared = [name for name in subject.keys() & base.keys() if _are_matrices(subject[name], base[name])]
    largest = sorted(shared, key=lambda name: (-base[name].size, name))
    larger = sorted(largest[1 : max(MATRICES, len(largest) // 2)], key=_depth_order)
    places = np.linspace(0, len(larger) - 1, min(MATRICES - 1, len(larger))).round().astype(int)
    return largest[:1] + [larger[place] for place in places]


def _are_matrices(ours: TensorInfo, theirs: TensorInfo) -> bool:
    return len(ours.shape) == len(theirs.shape) == 2 and ours.shape[1] == theirs.shape[1] and min(theirs.shape) > 1


def _depth_order(name: str) -> list[tuple[int, str]]:
    """Sorts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _cosine(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    if np.array_equal(ours, theirs):
        return 1.0
    first = (ours - ours.mean(axis=0)).astype(np.float64).ravel()
    second = (theirs - theirs.mean(axis=0)).astype(np.float64).ravel()
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 else 0.0


def _text_notices(subject: Inspected, base: Inspected) -> tuple[str, ...]:
    """What changes a model's answers without a weight being touched."""
    notices = []
    if subject.tokenizer.template != base.tokenizer.template:
        notices.append(
            "The chat template differs from the base's: read it, a template can carry instructions of its own."
        )
    changed = _changed_sections(subject.tokenizer.definition, base.tokenizer.definition)
    if changed:
        notices.append(f"tokenizer.json splits text otherwise than the base's: {listed(changed)} differ.")
    return tuple(notices)


def _changed_sections(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    sections = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    changed = [section for section in sections if ours.get(section) != theirs.get(section)]
    return changed + (["merges"] if _merges(ours) != _merges(theirs) else [])


def _merges(definition: Mapping[str, Any]) -> list[Any]:
    """Merges in one form: older files write a pair as one text with a space."""
    model = definition.get("model")
    merges = model.get("merges") if isinstance(model, dict) else None
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in merges] if isinstance(merges, list) else []
