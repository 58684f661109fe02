"""JSON documents that ship with a package: how they are read, and the digest that names what a report was made with."""

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
