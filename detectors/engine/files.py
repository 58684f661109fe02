"""The files of a model directory: which there are, what they hash to, and how their JSON is read.

Whoever made the directory may be hostile. A link may lead out of it, a file may be a device, JSON may be nested until
the parser dies or name a key twice so that two readers see two models. Everything is bounded here, and every text that
comes from a file is quoted and capped before it enters a message.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detectors.errors import IncompleteModelError, ModelReferenceError, UnsafeFileError

MAX_FILES = 10_000
MAX_FOLDERS_DEEP = 16
MAX_NESTING = 64
CONFIG_LIMIT = 2**20
TOKENIZER_LIMIT = 64 * 2**20

REDIRECTING = ("auto_map", "transformers_weights", "configuration_files", "fast_tokenizer_files")
"""Keys that make a loader import code from the directory, or read other files than the gate read."""


class ManifestEntry(NamedTuple):
    """One file: its path below the model directory (posix), its size in bytes, its SHA-256."""

    path: str
    size: int
    sha256: str


def quoted(text: object, limit: int = 200) -> str:
    """Text from a file as it may stand in a message: ASCII, escaped, capped."""
    shown = ascii(str(text)[: limit + 1])
    return shown if len(shown) <= limit + 2 else shown[:limit] + "...'"


def listed(names: Iterable[str], limit: int = 5) -> str:
    """The first few names, quoted, and how many more there are."""
    given = sorted(names)
    more = f" and {len(given) - limit} more" if len(given) > limit else ""
    return ", ".join(quoted(name, 80) for name in given[:limit]) + more


def find_directory(reference: Path) -> Path:
    """The directory that a reference names, with links resolved.

    Raises:
        ModelReferenceError: if there is no such directory, or it is a file.
    """
    if not os.path.exists(reference):  # a path that is too long is one that does not exist
        raise ModelReferenceError(
            f"{quoted(reference)} does not exist; give the path of a directory that holds a model in safetensors "
            "(a name from a hub is not a path: download the model first and give its directory)"
        )
    if not reference.is_dir():
        raise ModelReferenceError(
            f"{quoted(reference)} is a file, wanted a directory with config.json, tokenizer.json and "
            f"model.safetensors; give the directory that holds it: {quoted(reference.parent)}"
        )
    return reference.resolve()


def list_files(root: Path) -> dict[str, Path]:
    """Every regular file below a directory by its relative posix path, hidden ones left out.

    A link counts as the file that it leads to. It may lead out of the directory only from a snapshot of a Hugging Face
    cache to a blob of the same model.

    Raises:
        ModelReferenceError: if the directory is empty or cannot be read.
        UnsafeFileError: on a link that leaves the directory, a link to a directory, a device, or too many files.
        IncompleteModelError: on a link to a missing file.
    """
    found: dict[str, Path] = {}
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        for entry in _entries(folder):
            relative = Path(entry.path).relative_to(root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                pending.append((Path(entry.path), depth + 1))
            else:
                found[relative] = _regular_file(root, entry, relative)
        if len(found) > MAX_FILES or depth > MAX_FOLDERS_DEEP:
            raise UnsafeFileError(
                f"{quoted(root)} holds more than {MAX_FILES} files or folders more than {MAX_FOLDERS_DEEP} deep; "
                "give the directory of one model"
            )
    if not found:
        raise ModelReferenceError(f"{quoted(root)} is empty; give a directory that holds a model in safetensors")
    return dict(sorted(found.items()))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise ModelReferenceError(
            f"{quoted(folder)} cannot be read ({error.strerror}); check its permissions"
        ) from error


def _regular_file(root: Path, entry: os.DirEntry[str], relative: str) -> Path:
    if entry.is_symlink():
        return _followed(root, Path(entry.path), relative)
    if not entry.is_file(follow_symlinks=False):
        raise UnsafeFileError(
            f"{quoted(relative)} is a device, pipe or socket; a model holds plain files only: remove it"
        )
    return Path(entry.path)


def _followed(root: Path, link: Path, relative: str) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise IncompleteModelError(
            f"{quoted(relative)} is a link to a missing file; download or copy the model again"
        ) from error
    if not (target.is_relative_to(root) or _is_hub_blob(root, target)):
        raise UnsafeFileError(
            f"{quoted(relative)} is a link that leaves the model directory, to {quoted(target)}; "
            "replace it with a copy of the file"
        )
    if not target.is_file():
        raise UnsafeFileError(f"{quoted(relative)} is a link to something other than a file; replace it with a copy")
    return target


def _is_hub_blob(root: Path, target: Path) -> bool:
    """Whether root is `.../models--org--name/snapshots/<revision>` and target one of that model's blobs."""
    for place, part in enumerate(root.parts[:-1]):
        if part.startswith("models--") and root.parts[place + 1] == "snapshots":
            blobs = Path(*root.parts[: place + 1], "blobs")
            return target.parent == blobs and re.fullmatch(r"[0-9a-f]{40,64}", target.name) is not None
    return False


def read_manifest(files: Mapping[str, Path]) -> tuple[ManifestEntry, ...]:
    """Size and SHA-256 of every file, sorted by path.

    Args:
        files: what `list_files` found.

    Raises:
        ModelReferenceError: if a file cannot be read.
    """
    return tuple(ManifestEntry(path, *_measured(files[path], path)) for path in sorted(files))


def _measured(file: Path, shown: str) -> tuple[int, str]:
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return stream.tell(), digest
    except OSError as error:
        raise ModelReferenceError(
            f"{quoted(shown)} cannot be read ({error.strerror}); check its permissions"
        ) from error


def file_digest(manifest: Iterable[ManifestEntry]) -> str:
    """SHA-256 over a manifest: the digest that a report shows and a gate lets through."""
    return digest_of([list(entry) for entry in manifest])


def digest_of(value: Any) -> str:
    """SHA-256 over the canonical JSON of a value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def need(files: Mapping[str, Path], name: str, path: Path) -> None:
    """Insists on a file.

    Raises:
        IncompleteModelError: if the directory lacks it.
    """
    if name not in files:
        raise IncompleteModelError(
            f"{quoted(path)} has no {name}; it holds {listed(files)}. Copy {name} from where the model was saved"
        )


def read_bounded(file: Path, limit: int) -> bytes:
    """A file's bytes, if there are no more than `limit`.

    Raises:
        UnsafeFileError: if the file is larger.
    """
    with file.open("rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise UnsafeFileError(
            f"{quoted(file.name)} is larger than {limit} bytes, which no file of its kind needs to be; it is not parsed"
        )
    return raw


def load_json(file: Path, limit: int, shown: str | None = None) -> dict[str, Any]:
    """A JSON object from a file of at most `limit` bytes.

    Raises:
        UnsafeFileError: if the file is larger, no JSON object, nested too deep, or names a key twice.
    """
    return parse_json(read_bounded(file, limit), shown or file.name)


def optional_json(files: Mapping[str, Path], name: str) -> dict[str, Any]:
    """A small JSON object from a file that need not be there; empty without it.

    Raises:
        UnsafeFileError: as `load_json`.
    """
    return load_json(files[name], CONFIG_LIMIT, name) if name in files else {}


def parse_json(raw: bytes, shown: str) -> dict[str, Any]:
    """A JSON object from bytes.

    Args:
        shown: what an error calls the bytes.

    Raises:
        UnsafeFileError: if they are no JSON object, nested too deep, or name a key twice.
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError as error:
        raise _too_deep(shown) from error
    except ValueError as error:
        raise UnsafeFileError(f"{quoted(shown)} is not valid JSON ({quoted(error)}); restore the file") from error
    if not isinstance(value, dict):
        raise UnsafeFileError(f"{quoted(shown)} holds a {type(value).__name__}, wanted a JSON object; restore the file")
    _bound_nesting(value, shown)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:80]!r} stands there twice")
    return found


def _bound_nesting(value: Any, shown: str) -> None:
    level = [value]
    for _ in range(MAX_NESTING):
        level = [child for item in level for child in _children(item)]
        if not level:
            return
    raise _too_deep(shown)


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _too_deep(shown: str) -> UnsafeFileError:
    return UnsafeFileError(
        f"{quoted(shown)} is nested more than {MAX_NESTING} deep; no model needs that: restore the file"
    )


def refuse_redirects(settings: Mapping[str, Any], shown: str) -> None:
    """Refuses settings that lead a loader to code, kernels or files which the gate has not read.

    Raises:
        UnsafeFileError: naming the key.
    """
    for key, value in _walk(settings):
        if key in REDIRECTING and value:
            raise UnsafeFileError(
                f"{shown} has the key {key!r}, which makes a loader run code from the directory or read other files "
                "than those checked; remove the key; a model that needs it cannot be scanned"
            )
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")) and "/" in str(value):
            raise UnsafeFileError(
                f"{shown} has {quoted(key)} {quoted(value, 80)}, which makes a loader fetch and run a kernel; "
                "remove the key"
            )


def _walk(settings: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(settings, dict):
        yield from settings.items()
    children = settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else ()
    for child in children:
        yield from _walk(child)
