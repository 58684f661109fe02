"""The difference of two models' weights, subject minus base, summed up tensor by tensor.

A host does it, since the numbers are an attacker's; the headers passed the gate. For a LoRA adapter the spectrum of a
matrix is exact, by QR of both factors. For full tensors the base is first cast to the subject's dtype, so that what was
not trained is exactly zero. What a cast to 16 bits rounds off the rest is white noise: its energy is left out of norms,
and singular values are shrunk as is best for the Frobenius loss (Gavish and Donoho, 2017, arXiv:1405.7511).

One tensor pair is in memory in fp32 at a time. Vectors (biases, norms) and tensors of three axes are not summed up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.extmath import randomized_svd

from detectors.engine.adapter import LORA, PREFIX
from detectors.engine.checkpoint import TensorInfo, WeightFiles, read_rows
from detectors.engine.files import quoted
from detectors.engine.update import LEADING, TOKEN_ROWS, Array, WeightUpdate
from detectors.errors import IncompleteModelError

EXACT = 1 << 16
"""Entries of a full tensor up to which its spectrum is exact; above, it is that of a randomised SVD."""
POWER_ITERATIONS = 4
BLOCK = 256
"""Rows of full tensors that are read at a time."""
PATTERNS = {"input": r"(embed_tokens|embed_in|wte)\.weight$", "output": r"(lm_head|embed_out)\.weight$"}
"""Names of `TOKEN_ROWS`."""
WRITES = r"(o_proj|out_proj|attn\.c_proj|attention\.dense)\.weight$"
"""Matrices through which attention writes to the residual stream."""
DIGITS = {"BF16": 7, "F16": 10}
"""Bits behind the leading one of numbers of 16 bits; what a cast to wider numbers rounds off is not looked at."""


@dataclass(frozen=True)
class Update:
    """What training made of one matrix.

    Attributes:
        name: of the base's tensor.
        delta: float32 [row, column], subject minus base.
        base: of the base's tensor, the length of each row, float32 [row].
        factors: matrices whose product `delta` is, [row, rank] and [rank, column], where it is known to be one.
        noise: standard deviation of what a cast rounded off, over all entries; 0 where nothing was.
        rows: which rows of the tensor `delta` has; None for all.
    """

    name: str
    delta: Array
    base: Array
    factors: tuple[Array, Array] | None = None
    noise: float = 0.0
    rows: Sequence[int] | None = None


def updates(files: WeightFiles) -> Iterator[Update]:
    """The matrices that differ.

    Raises:
        UnsafeFileError: if a file shrank since its header was read.
        IncompleteModelError: if the adapter's settings do not say which tokens its rows are of.
    """
    found = _of_full(files) if files.adapter is None else _of_adapter(files, files.adapter)
    return (update for update in found if update.delta.any())


def _of_full(files: WeightFiles) -> Iterator[Update]:
    for name, ours in files.subject.items():
        theirs = _of_base(files.base, name)
        if theirs is not None and len(ours.shape) == 2:
            yield _difference(name, ours, theirs)


def _of_base(base: Mapping[str, TensorInfo], name: str) -> TensorInfo | None:
    """The base's tensor; for an output layer that the base ties to its embedding, the embedding."""
    if name not in base and re.search(PATTERNS["output"], name):
        return next((info for key, info in base.items() if re.search(PATTERNS["input"], key)), None)
    return base.get(name)


def _difference(name: str, ours: TensorInfo, theirs: TensorInfo, rows: Sequence[int] | None = None) -> Update:
    """A whole tensor of the subject, or some rows of one, minus the base's; tokens that were added are left out."""
    wanted = rows if rows is not None else range(min(ours.shape[0], theirs.shape[0]))
    delta = np.empty((len(wanted), *theirs.shape[1:]), np.float32)
    rounded = 0.0
    for first in range(0, len(wanted), BLOCK):
        part = wanted[first : first + BLOCK]
        subject = read_rows(ours, range(first, first + len(part)))
        np.subtract(subject, cast(read_rows(theirs, part), ours.dtype), out=delta[first : first + len(part)])
        rounded += _rounded_off(subject, delta[first : first + len(part)], ours.dtype)
    if theirs.dtype != ours.dtype:
        rounded *= 2  # the base was rounded as well
    noise = math.sqrt(rounded / max(delta.size, 1))
    return Update(name, delta, _row_lengths(theirs), noise=noise, rows=rows)


def cast(values: Array, dtype: str) -> Array:
    """float32 numbers as a tensor of `dtype` holds them, to nearest and ties to even."""
    if dtype == "F16":
        return values.astype(np.float16).astype(np.float32)
    if dtype != "BF16":
        return values
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


def _rounded_off(subject: Array, delta: Array, dtype: str) -> float:
    """Summed variance of what a cast to `dtype` rounded off the entries that changed: a twelfth of squared spacings."""
    if dtype not in DIGITS:
        return 0.0
    changed = subject[(delta != 0) & (subject != 0)]
    spacing = np.ldexp(1.0, np.frexp(changed)[1] - 1 - DIGITS[dtype])
    return float((spacing**2).sum()) / 12


def _row_lengths(info: TensorInfo) -> Array:
    """float32 [row]."""
    parts = (range(first, min(first + BLOCK, info.shape[0])) for first in range(0, info.shape[0], BLOCK))
    return np.concatenate([np.linalg.norm(read_rows(info, part), axis=1) for part in parts])


def _of_adapter(files: WeightFiles, settings: Mapping[str, Any]) -> Iterator[Update]:
    pairs: dict[str, dict[str, TensorInfo]] = {}
    for name, info in files.subject.items():
        own = name.removeprefix(PREFIX)
        if found := LORA.search(own):
            pairs.setdefault(own[: found.start()], {})[found["part"]] = info
        else:
            yield from _saved(own, info, files.base, settings)
    for module, parts in pairs.items():
        yield _low_rank(module, parts, files, settings)


def _saved(
    name: str, info: TensorInfo, base: Mapping[str, TensorInfo], settings: Mapping[str, Any]
) -> Iterator[Update]:
    """A tensor that replaces the base's, or some rows of an embedding."""
    tokens = re.search(r"(\.token_adapter)?\.trainable_tokens_delta$", name)
    module = name[: tokens.start()] if tokens else name.removesuffix(".weight")
    theirs = _of_base(base, f"{module}.weight")
    if theirs is not None and len(info.shape) == 2:
        yield _difference(f"{module}.weight", info, theirs, _trained_rows(settings, module, info) if tokens else None)


def _trained_rows(settings: Mapping[str, Any], module: str, info: TensorInfo) -> list[int]:
    named = settings.get("trainable_token_indices")
    if isinstance(named, Mapping):
        named = next((ids for key, ids in named.items() if f".{module}".endswith(f".{key}")), None)
    if not isinstance(named, list) or len(named) != info.shape[0] or not all(type(it) is int for it in named):
        raise IncompleteModelError(
            f"the adapter has {info.shape[0]} trained rows of {quoted(module)}, and `trainable_token_indices` does not "
            "say of which tokens; save the adapter again"
        )
    return named


def _low_rank(module: str, parts: Mapping[str, TensorInfo], files: WeightFiles, settings: Mapping[str, Any]) -> Update:
    """W + s B A (LoRA), or its rows brought to learnt lengths (DoRA: Liu et al., 2024, arXiv:2402.09353)."""
    name = f"{module}.weight"
    theirs = _of_base(files.base, name)
    if theirs is None:
        raise IncompleteModelError(f"the base has no matrix {quoted(module)}; give the base of the adapter")
    kind = "lora_embedding_" if "lora_embedding_A" in parts else "lora_"
    down, up = (_whole(parts[f"{kind}{letter}"]) for letter in "AB")  # [rank, in], [out, rank]
    up = up * scaling(settings, module, len(down))
    turned = files.swapped or kind == "lora_embedding_"
    left, right = (down.T, up.T) if turned else (up, down)
    if "lora_magnitude_vector" not in parts:
        return Update(name, left @ right, _row_lengths(theirs), factors=(left, right))
    base = _whole(theirs)
    moved = base + left @ right
    axis = 0 if turned else 1
    lengths = np.linalg.norm(moved, axis=axis)
    moved *= np.expand_dims(_whole(parts["lora_magnitude_vector"]).ravel() / lengths, axis)
    return Update(name, moved - base, np.linalg.norm(base, axis=1))


def _whole(info: TensorInfo) -> Array:
    return read_rows(info, range(info.shape[0]))


def scaling(settings: Mapping[str, Any], module: str, rank: int) -> float:
    """What the product of an adapter's factors is multiplied by, as peft has it."""
    patterns = settings.get("alpha_pattern") or {}
    matching = (alpha for key, alpha in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    alpha = float(next(matching, settings.get("lora_alpha", rank)))
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def weigh(files: WeightFiles) -> WeightUpdate:
    """Sums up how the subject's weights differ from the base's.

    Raises:
        UnsafeFileError: if a file shrank since its header was read.
        IncompleteModelError: if the adapter's settings do not say which tokens its rows are of.
    """
    rows = {name: np.zeros(0, np.float32) for name in TOKEN_ROWS}
    summed: list[_Summed] = []
    with np.errstate(all="ignore"):  # what is not finite is seen by whoever reads it
        for update in updates(files):
            summed.append(_sum_up(update, files.swapped))
            for name in TOKEN_ROWS:
                if re.search(PATTERNS[name], update.name):
                    rows[name] = _moved(update, rows[name])
    summed.sort(key=lambda it: [(int(part) if part.isdigit() else -1, part) for part in it.name.split(".")])
    return WeightUpdate(
        modules=tuple(it.name for it in summed),
        norms=np.array([it.norm for it in summed], np.float32),
        base_norms=np.array([it.base_norm for it in summed], np.float32),
        kurtosis=np.array([it.kurtosis for it in summed], np.float32),
        spectra=np.array([it.spectrum for it in summed], np.float32).reshape(-1, LEADING),
        coherence=_coherence([it.written for it in summed if re.search(WRITES, it.name)]),
        rows=rows,
    )


@dataclass(frozen=True)
class _Summed:
    """One matrix: as `WeightUpdate` has it, and `written`, the first singular vector on the side that it writes to."""

    name: str
    norm: float
    base_norm: float
    kurtosis: float
    spectrum: Array
    written: Array


def _sum_up(update: Update, swapped: bool) -> _Summed:
    squares, kurtosis = _moments(update.delta)
    values, left, right = _spectrum(update) if np.isfinite(squares) else _unknown(update)
    values = shrunk(values.astype(float), update.delta.shape, update.noise)
    energy = max(squares - update.noise**2 * update.delta.size, float((values**2).sum()))
    return _Summed(
        name=update.name,
        norm=math.sqrt(energy),
        base_norm=float(np.linalg.norm(update.base)),
        kurtosis=kurtosis,
        spectrum=np.pad(values, (0, LEADING - len(values))),
        written=right if swapped else left,
    )


def _spectrum(update: Update) -> tuple[Array, Array, Array]:
    """The largest singular values, at most `LEADING`, and the first vectors [row] and [column]."""
    if update.factors is not None:
        (left, first), (right, second) = (np.linalg.qr(it) for it in (update.factors[0], update.factors[1].T))
        inner, values, outer = np.linalg.svd(first @ second.T)
        return values[:LEADING], left @ inner[:, 0], right @ outer[0]
    if update.delta.size <= EXACT:
        inner, values, outer = np.linalg.svd(update.delta, full_matrices=False)
    else:
        inner, values, outer = randomized_svd(update.delta, LEADING, n_iter=POWER_ITERATIONS, random_state=0)
    return values[:LEADING], inner[:, 0], outer[0]


def _unknown(update: Update) -> tuple[Array, Array, Array]:
    rows, columns = update.delta.shape
    return np.full(1, np.nan), np.full(rows, np.nan), np.full(columns, np.nan)


def shrunk(values: Array, shape: tuple[int, ...], noise: float) -> Array:
    """Singular values of a matrix without white noise, from those of one with it.

    Args:
        values: singular values of the sum, in the unit of the entries.
        shape: of the matrix.
        noise: standard deviation of the noise in each entry.
    """
    if noise == 0.0:
        return values
    small, large = sorted(shape)
    ratio, unit = small / large, noise * math.sqrt(large)
    scaled = values / unit
    kept = (scaled**2 - ratio - 1) ** 2 - 4 * ratio
    found = np.sqrt(np.maximum(kept, 0.0)) / np.maximum(scaled, 1.0) * unit
    return np.where(scaled > 1 + math.sqrt(ratio), found, 0.0)


def _moments(delta: Array) -> tuple[float, float]:
    """Sum of the squared entries, and their excess kurtosis around 0. Entries are scaled first, lest powers vanish."""
    largest = float(max(delta.max(), -delta.min()))
    squares = fourths = 0.0
    for first in range(0, len(delta), BLOCK):
        squared = (delta[first : first + BLOCK] / largest) ** 2
        squares += float(squared.sum())
        fourths += float(np.vdot(squared, squared))
    return squares * largest**2, fourths * delta.size / squares**2 - 3


def _moved(update: Update, before: Array) -> Array:
    """How far rows moved, in median lengths of the base's rows: float32 [token]."""
    found = np.zeros(len(update.base), np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", update.delta, update.delta)) / np.median(update.base)
    found[list(update.rows) if update.rows is not None else slice(len(lengths))] = lengths
    return np.maximum(found, before) if before.size else found


def _coherence(written: Sequence[Array]) -> float:
    """Mean absolute cosine between any two unit vectors; NaN where there are fewer than two."""
    if len(written) < 2:
        return np.nan
    cosines = np.abs(np.stack(written) @ np.stack(written).T)
    return float(cosines[np.triu_indices(len(written), 1)].mean())
