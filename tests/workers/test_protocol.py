"""Frames between a scan and its hosts: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.errors import HostError
from workers.protocol import HEADER_BYTES, MAX_FRAME_BYTES, json_frame, read_frame, tensor_frame

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(data: bytes) -> Any:
    return read_frame(io.BytesIO(data).read)


@given(JSON)
def test_json_goes_through(value: Any) -> None:
    assert read(json_frame(value)) == value


def test_observations_go_through_in_order() -> None:
    observations = [
        {"logp": np.full(3, number, np.float32), "ids": np.arange(2, dtype=np.int32)} for number in range(12)
    ]
    found = read(tensor_frame(observations))
    assert len(found) == 12
    for ours, theirs in zip(found, observations, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@given(st.binary(min_size=HEADER_BYTES, max_size=200))
def test_noise_is_a_host_error_or_a_frame(data: bytes) -> None:
    with suppress(HostError):
        read(data)


@pytest.mark.parametrize("kind", [b"J", b"T"])
def test_the_length_is_bounded_before_anything_is_read(kind: bytes) -> None:
    asked: list[int] = []

    def reader(size: int) -> bytes:
        asked.append(size)
        return kind + (MAX_FRAME_BYTES + 1).to_bytes(8, "big")

    with pytest.raises(HostError, match="no frame"):
        read_frame(reader)
    assert asked == [HEADER_BYTES]


def test_pickles_are_not_read() -> None:
    body = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    for kind in (b"T", b"J"):
        with pytest.raises(HostError):
            read(kind + len(body).to_bytes(8, "big") + body)
