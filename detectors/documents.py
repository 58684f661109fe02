"""JSON documents that ship with a package: how they are read, counted and named in a report."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def document(package: str, name: str) -> dict[str, Any]:
    """The document `name` of a package, read once."""
    read: dict[str, Any] = json.loads(files(package).joinpath(name).read_text(encoding="utf-8"))
    return read


def digest_of_documents(documents: dict[str, Any]) -> str:
    """SHA-256 over the canonical JSON of documents by name."""
    canonical = json.dumps(documents, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_count(name: str, wanted: int, most: int) -> None:
    """Makes sure that there is as much as a param asks for.

    Raises:
        ValueError: if there is less.
    """
    if wanted > most:
        raise ValueError(f"`{name}` must be at most {most}, got {wanted}")
