"""The narrow protocol between a scan and a model host: length-prefixed frames over two pipes.

A frame is one byte of kind (`J` JSON, `T` tensors), eight bytes of length, and the body. Tensors travel as safetensors
bytes, whose reader executes nothing; names are `<index>/<array>`. The reader bounds the length before it allocates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from detectors.engine.observations import Arrays, pack, unpack
from detectors.errors import HostError

MAX_FRAME_BYTES = 1 << 30
HEADER_BYTES = 9

ReadExactly = Callable[[int], bytes]


def json_frame(value: Any) -> bytes:
    """A frame with a JSON body."""
    return _frame(b"J", json.dumps(value).encode())


def tensor_frame(observations: Sequence[Arrays]) -> bytes:
    """A frame with the arrays of many observations, in order."""
    flat = {f"{index}/{name}": array for index, arrays in enumerate(observations) for name, array in arrays.items()}
    return _frame(b"T", pack(flat))


def read_frame(read_exactly: ReadExactly) -> Any:
    """The next frame: parsed JSON, or a list of observations.

    Raises:
        HostError: if what comes is not a frame.
    """
    header = read_exactly(HEADER_BYTES)
    length = int.from_bytes(header[1:], "big")
    if header[:1] not in (b"J", b"T") or length > MAX_FRAME_BYTES:
        raise HostError(f"the model host answered {header!r}, which is no frame; it is ended and the chunk is retried")
    body = read_exactly(length)
    try:
        return json.loads(body) if header[:1] == b"J" else _observations(body)
    except Exception as error:
        raise HostError(f"the model host's answer cannot be read: {type(error).__name__}") from error


def _observations(body: bytes) -> list[Arrays]:
    found: dict[int, Arrays] = {}
    for name, array in unpack(body).items():
        index, _, inner = name.partition("/")
        found.setdefault(int(index), {})[inner] = array
    return [found[index] for index in range(len(found))]


def _frame(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(8, "big") + body
