"""Chunks: pieces of a plan that any worker can observe, as bytes in the database.

A chunk says everything but the models' files: which contents, which token ids, what to read. Its key is a digest of the
requests' keys, so the same piece of the same scan is the same row, however often its detectors are replayed.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence

from detectors.engine.observations import ModelId, Read, Request, read_from_json, read_to_json


def pack_requests(requests: Sequence[Request]) -> bytes:
    """Requests to one model, as the body of a chunk."""
    reads: list[Read] = list(dict.fromkeys(request.read for request in requests))
    which = {read: at for at, read in enumerate(reads)}
    first = requests[0]
    body = {
        "content": first.model.content,
        "transforms": first.model.transforms,
        "dtype": first.dtype,
        "reads": [read_to_json(read) for read in reads],
        "requests": [(request.tokens, which[request.read]) for request in requests],
    }
    return zlib.compress(json.dumps(body).encode())


def unpack_requests(body: bytes) -> list[Request]:
    """The requests of a chunk's body."""
    found = json.loads(zlib.decompress(body))
    model = ModelId(found["content"], tuple(found["transforms"]))
    reads = [read_from_json(kind, fields) for kind, fields in found["reads"]]
    return [Request(model, tuple(ids), reads[which], found["dtype"]) for ids, which in found["requests"]]


def chunk_key(keys: Sequence[str]) -> str:
    """The key of a chunk with these requests' keys, SHA-256 as hex."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()
