"""Safetensors files, read by their bytes: headers, shards, rows, one hashing pass that also looks for broken numbers.

What a file is follows from its content, never from its name. The header must describe the file exactly: every byte
belongs to one tensor, none overlap, nothing follows the last (which is where a second archive would hide). Data is read
with plain reads, not mapped: a file that shrinks while it is read is then an error and not a dead process.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from detectors.engine.files import TOKENIZER_LIMIT, ManifestEntry, canonical, load_json, parse_json, quoted
from detectors.engine.shipped import ModelFiles
from detectors.engine.tokenizer import Tokenizer
from detectors.errors import BrokenWeightsError, IncompleteModelError, UnsafeFileError, UnsupportedModelError
from detectors.report import ModelCard

HEADER_LIMIT = 100_000_000
MAX_DIMENSIONS = 8
CHUNK = 2**20
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONVERT = "convert it to safetensors with the tool that made it, on a machine you can throw away, and scan the result"

WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
WIDTHS |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}
QUANTISED = frozenset(
    {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64"}
)
EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F32": (np.uint32, 0x7F80_0000),
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
}
"""Per float dtype, the bits that are all set exactly in infinities and NaN."""

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes; the pickle inside runs code when it is opened"),
    *((bytes((0x80, protocol)), "a pickle, which runs code when it is opened") for protocol in range(2, 6)),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself: run `git lfs pull`"),
)


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: bytes `begin` to `end` of `file`, row-major, little-endian."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Inspected:
    """A model directory that passed the static gate.

    Attributes:
        path: the directory, absolute, links not resolved.
        manifest: every file with its size and digest.
        config: config.json; of an adapter its base's.
        tensors: the directory's own tensors; of an adapter only the adapter's.
        generation: generation_config.json without keys that change no answer; of an adapter its base's, if it has none.
        base: what it was inspected against, if anything; an adapter has one always.
    """

    path: Path
    kind: Literal["full", "adapter"]
    card: ModelCard
    manifest: tuple[ManifestEntry, ...]
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    tokenizer: Tokenizer
    generation: Mapping[str, Any]
    adapter_config: Mapping[str, Any] | None = None
    base: Inspected | None = None

    def files(self) -> ModelFiles:
        """What it holds beside its weights, for detectors."""
        return ModelFiles(
            template=self.tokenizer.template,
            specials=self.tokenizer.specials,
            tokenizer=self.tokenizer.definition,
            settings=self.tokenizer.settings,
            config=self.config,
            generation=self.generation,
        )

    def weight_files(self) -> WeightFiles:
        """Where its tensors and its base's lie, for the host that compares them."""
        base = self.base.tensors if self.base else {}
        return WeightFiles(self.tensors, base, self.adapter_config, swapped=self.config.get("model_type") == "gpt2")


@dataclass(frozen=True)
class WeightFiles:
    """Where the tensors of both models lie.

    Attributes:
        subject: its own tensors; of an adapter only the adapter's.
        adapter: the settings of an adapter; None for a full model.
        swapped: whether matrices of blocks are kept as [in, out].
    """

    subject: Mapping[str, TensorInfo]
    base: Mapping[str, TensorInfo]
    adapter: Mapping[str, Any] | None = None
    swapped: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data, for another process."""
        tables = {"subject": _table(self.subject), "base": _table(self.base)}
        return tables | {"adapter": self.adapter, "swapped": self.swapped}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        return cls(_tensors(told["subject"]), _tensors(told["base"]), told["adapter"], told["swapped"])


def _table(tensors: Mapping[str, TensorInfo]) -> dict[str, list[Any]]:
    return {name: [str(it.file), it.dtype, it.shape, it.begin, it.end] for name, it in tensors.items()}


def _tensors(table: Mapping[str, Sequence[Any]]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(Path(file), dtype, tuple(shape), begin, end)
        for name, (file, dtype, shape, begin, end) in table.items()
    }


def read_header(file: Path, shown: str) -> dict[str, TensorInfo]:
    """The tensors that a safetensors file holds.

    Args:
        shown: what errors call the file.

    Raises:
        UnsafeFileError: if the file is no safetensors file, is cut short, or its header lies.
        UnsupportedModelError: if a tensor is stored in 8 bits or fewer.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(64)
        length = struct.unpack("<Q", start[:8])[0] if len(start) >= 9 else 0
        if length > HEADER_LIMIT or 8 + length > size or start[8:9] != b"{":
            raise UnsafeFileError(_not_safetensors(start, length, size, shown))
        stream.seek(8)
        header = parse_json(stream.read(length), f"header of {shown}")
    _check_metadata(header.pop("__metadata__", {}), shown)
    tensors = {name: _tensor(file, name, entry, 8 + length, shown) for name, entry in header.items()}
    _check_layout(tensors, 8 + length, size, shown)
    return tensors


def _not_safetensors(start: bytes, length: int, size: int, shown: str) -> str:
    for signature, meaning in SIGNATURES:
        if start.startswith(signature):
            return f"{quoted(shown)} is {meaning}; wanted safetensors. It was not opened: {CONVERT}"
    if len(start) < 9:
        return f"{quoted(shown)} is truncated: {size} bytes, less than any safetensors header; copy the file again"
    if length > HEADER_LIMIT or 8 + length > size:
        return (
            f"{quoted(shown)} claims a header of {length} bytes, but has {size} bytes and headers may have "
            f"{HEADER_LIMIT}; it is cut short or no safetensors file: copy it again, or, if it is a pickle, {CONVERT}"
        )
    return f"{quoted(shown)} has no JSON header, so it is no safetensors file: {CONVERT}"


def _check_metadata(metadata: Any, shown: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UnsafeFileError(f"{quoted(shown)}: `__metadata__` must map names to text; save the file again")


def _tensor(file: Path, name: str, entry: Any, data_begin: int, shown: str) -> TensorInfo:
    where = f"tensor {quoted(name)} in {quoted(shown)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise UnsafeFileError(f"{where} needs exactly dtype, shape and data_offsets; save the file again")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in QUANTISED | WIDTHS.keys():
        raise UnsafeFileError(f"{where} has the unknown dtype {quoted(dtype, 40)}; save the file again")
    if dtype in QUANTISED:
        raise UnsupportedModelError(
            f"{where} has dtype {dtype}, wanted F16, BF16, F32 or F64; scan the model before it was quantised"
        )
    if not (_are_counts(shape) and len(shape) <= MAX_DIMENSIONS and _are_counts(offsets) and len(offsets) == 2):
        raise UnsafeFileError(
            f"{where} has shape {quoted(shape, 80)} and offsets {quoted(offsets, 80)}; wanted at most {MAX_DIMENSIONS} "
            "sizes and two offsets, all whole numbers from 0; save the file again"
        )
    begin, end = offsets
    if end - begin != math.prod(shape) * WIDTHS[dtype]:
        raise UnsafeFileError(
            f"{where} has offsets {begin} to {end}, but {dtype} of shape {quoted(shape, 80)} takes "
            f"{math.prod(shape) * WIDTHS[dtype]} bytes; save the file again"
        )
    return TensorInfo(file, dtype, tuple(shape), data_begin + begin, data_begin + end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _check_layout(tensors: Mapping[str, TensorInfo], data_begin: int, size: int, shown: str) -> None:
    reached = data_begin
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != reached:
            fault = "overlaps the one before" if info.begin < reached else "leaves a gap before it"
            raise UnsafeFileError(f"tensor {quoted(name)} in {quoted(shown)} {fault}; save the file again")
        if info.end > size:
            raise UnsafeFileError(
                f"{quoted(shown)} is truncated: tensor {quoted(name)} ends at byte {info.end}, the file at {size}; "
                "copy the file again"
            )
        reached = info.end
    if reached != size:
        raise UnsafeFileError(
            f"{quoted(shown)} holds {size - reached} bytes that belong to no tensor; nothing may follow the last "
            "tensor: save the file again"
        )


def read_checkpoint(files: Mapping[str, Path]) -> dict[str, TensorInfo]:
    """The tensors of a full model, from one file or from shards.

    Args:
        files: what `list_files` found; must hold model.safetensors or its index.

    Raises:
        UnsafeFileError: if a file is no honest safetensors file, or the index leaves the directory.
        IncompleteModelError: if a shard or a promised tensor is missing.
        UnsupportedModelError: if a tensor is stored in 8 bits or fewer.
    """
    if SINGLE in files:
        return read_header(files[SINGLE], SINGLE)
    promised = _weight_map(load_json(files[INDEX], TOKENIZER_LIMIT))
    tensors: dict[str, TensorInfo] = {}
    for shard in sorted(set(promised.values())):
        held = _read_shard(files, shard)
        for name in sorted(tensors.keys() & held.keys()):
            raise UnsafeFileError(
                f"tensor {quoted(name)} lies in {quoted(shard)} and in another shard; save the model again"
            )
        tensors |= held
        for name in sorted(name for name, place in promised.items() if place == shard and name not in held):
            raise IncompleteModelError(
                f"{INDEX} promises tensor {quoted(name)} in {quoted(shard)}, which lacks it; copy the shard again"
            )
    return tensors


def _weight_map(index: Mapping[str, Any]) -> dict[str, str]:
    promised = index.get("weight_map")
    if not isinstance(promised, dict) or not promised or not all(isinstance(shard, str) for shard in promised.values()):
        raise UnsafeFileError(f"{INDEX} has no `weight_map` from tensor names to file names; restore the file")
    for shard in set(promised.values()):
        parts = PurePosixPath(shard).parts
        if not parts or shard.startswith("/") or "\\" in shard or any(part.startswith(".") for part in parts):
            raise UnsafeFileError(
                f"{INDEX} names the shard {quoted(shard)}; wanted a visible file below the model directory: "
                "the index was tampered with, restore it"
            )
    return promised


def _read_shard(files: Mapping[str, Path], shard: str) -> dict[str, TensorInfo]:
    if shard not in files:
        raise IncompleteModelError(f"{INDEX} names the shard {quoted(shard)}, which is missing; copy or download it")
    return read_header(files[shard], shard)


def hash_tensors(tensors: Mapping[str, TensorInfo]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes in the order of names, whichever files they lie in.

    The same pass looks at every float.

    Raises:
        BrokenWeightsError: on the first NaN or infinity, naming its tensor and file.
        UnsafeFileError: if a file shrank since its header was read.
    """
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        info = tensors[name]
        hasher.update(canonical([name, info.dtype, info.shape]))
        for chunk in _chunks(info):
            hasher.update(chunk)
            if _has_broken(chunk, info.dtype):
                raise BrokenWeightsError(
                    f"tensor {quoted(name)} in {quoted(info.file.name)} holds NaN or infinite numbers; "
                    "the model cannot be run as it is: save it again from a sound checkpoint"
                )
    return hasher.hexdigest()


def _chunks(info: TensorInfo) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(CHUNK))
    with info.file.open("rb", buffering=0) as stream:
        stream.seek(info.begin)
        for place in range(info.begin, info.end, CHUNK):
            chunk = buffer[: min(CHUNK, info.end - place)]
            if stream.readinto(chunk) != len(chunk):
                raise _shrank(info)
            yield chunk


def _shrank(info: TensorInfo) -> UnsafeFileError:
    return UnsafeFileError(f"{quoted(info.file.name)} became shorter while it was read; scan a copy that nobody writes")


def _has_broken(chunk: memoryview, dtype: str) -> bool:
    if dtype not in EXPONENTS:
        return False
    word, exponent = EXPONENTS[dtype]
    bits = np.frombuffer(chunk, dtype=word) & word(exponent)
    return bool(bits.max() == exponent)


def read_rows(info: TensorInfo, rows: Sequence[int]) -> NDArray[np.float32]:
    """Some rows of a matrix, widened to float32.

    Args:
        rows: indices along the first axis.

    Returns:
        Array of shape [row, column]; further axes are flattened into columns.

    Raises:
        UnsafeFileError: if the file shrank since its header was read.
    """
    columns = math.prod(info.shape[1:])
    stride = columns * WIDTHS[info.dtype]
    raw = bytearray()
    with info.file.open("rb") as stream:
        for row in rows:
            stream.seek(info.begin + row * stride)
            raw += stream.read(stride)
    if len(raw) != stride * len(rows):
        raise _shrank(info)
    return _widened(raw, info.dtype).reshape(len(rows), columns)


def _widened(raw: bytearray, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    letter = {"F": "f", "I": "i", "U": "u", "B": "u"}[dtype[0]]
    return np.frombuffer(raw, dtype=f"<{letter}{WIDTHS[dtype]}").astype(np.float32)
