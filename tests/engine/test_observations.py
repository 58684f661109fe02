"""Requests as values: their keys, their way through JSON and bytes, and the check of what a host answers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine.invented import InventedAsk, nothing
from detectors.engine.observations import (
    TOP,
    TRACE_TOP,
    Answer,
    Arrays,
    Gains,
    Hidden,
    ModelId,
    NextToken,
    Plan,
    Read,
    Request,
    Score,
    Trace,
    check,
    pack,
    read_from_json,
    read_to_json,
    unpack,
)
from detectors.errors import HostError

IDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6).map(tuple)
READS: st.SearchStrategy[Read] = st.one_of(
    IDS.map(NextToken),
    st.integers(1, 99).map(Score),
    st.integers(1, 99).map(Trace),
    IDS.map(Hidden),
    st.builds(Gains, st.integers(1, 99), st.integers(0, 99), st.integers(1, 9)),
    st.builds(Answer, st.integers(1, 99), st.floats(0, 2), st.integers(0, 2**63)),
)
REQUEST = Request(ModelId("a" * 64), (1, 2, 3), NextToken((7,)), "float32")
EACH: list[Read] = [NextToken((3, 4)), Score(2), Trace(2), Hidden((0, 1)), Gains(1, 0, 2), Answer(4)]


def answer(read: Read) -> Arrays:
    return InventedAsk()(Plan("base", [(5, 6, 7)], read))[0]


@given(READS)
def test_reads_survive_json(read: Read) -> None:
    assert read_from_json(*read_to_json(read)) == read


@given(IDS, READS)
def test_keys_are_digests_of_the_request(tokens: tuple[int, ...], read: Read) -> None:
    request = Request(ModelId("b" * 64), tokens, read, "float32")
    assert request.key() == replace(request).key()
    assert len(bytes.fromhex(request.key())) == 32


def test_keys_differ_wherever_requests_do() -> None:
    others = [
        replace(REQUEST, model=ModelId("b" * 64)),
        replace(REQUEST, model=ModelId("a" * 64, ("noise",))),
        replace(REQUEST, tokens=(1, 2)),
        replace(REQUEST, tokens=(1, 3, 2)),
        replace(REQUEST, tokens=(1, 2, 3, 0)),
        replace(REQUEST, read=NextToken((8,))),
        replace(REQUEST, read=NextToken()),
        replace(REQUEST, read=Score(1)),
        replace(REQUEST, read=Trace(1)),
        replace(REQUEST, read=Trace(2)),
        replace(REQUEST, read=Answer(4)),
        replace(REQUEST, read=Answer(5)),
        replace(REQUEST, read=Answer(4, seed=1)),
        replace(REQUEST, read=Answer(4, temperature=0.5)),
        replace(REQUEST, dtype="bfloat16"),
    ]
    assert len({request.key() for request in [REQUEST, *others]}) == 1 + len(others)


def test_keys_are_the_same_in_another_process() -> None:
    code = (
        "from detectors.engine.observations import *;"
        "print(Request(ModelId('a' * 64), (1, 2, 3), NextToken((7,)), 'float32').key())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == REQUEST.key()


@pytest.mark.parametrize("read", EACH, ids=lambda read: read.kind)
def test_arrays_survive_bytes(read: Read) -> None:
    arrays = answer(read)
    again = check(read, unpack(pack(arrays)))
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype


def test_one_read_or_one_a_request() -> None:
    assert Plan("base", [(1,), (2,)], Score(1)).reads() == [Score(1), Score(1)]
    assert Plan("base", [(1,), (2,)], [Score(1), Score(2)]).reads() == [Score(1), Score(2)]


@pytest.mark.parametrize("read", EACH, ids=lambda read: read.kind)
def test_what_was_asked_for_passes(read: Read) -> None:
    arrays = answer(read)
    assert check(read, arrays) is arrays
    names = [name for name, array in arrays.items() if array.dtype == np.float32]
    hollow = arrays | {name: np.full_like(arrays[name], np.nan) for name in names}
    assert check(read, hollow) is hollow


def spoil(array: Any) -> list[Any]:
    """The same array in ways that nobody asked for."""
    longer = np.concatenate([array] * (TOP + 2))
    return [array.astype(np.float64), longer, array[None], array.astype(np.float16), np.array(0, array.dtype)]


@pytest.mark.parametrize("read", EACH, ids=lambda read: read.kind)
def test_anything_else_is_a_host_error_that_names_it(read: Read) -> None:
    arrays = answer(read)
    for name in arrays:
        for wrong in spoil(arrays[name]):
            with pytest.raises(HostError, match=f"`{name}` as {wrong.dtype}.*`{read.kind}` request"):
                check(read, arrays | {name: wrong})
        with pytest.raises(HostError, match=f"`{read.kind}` request, wanted"):
            check(read, {kept: array for kept, array in arrays.items() if kept != name})
    with pytest.raises(HostError, match="extra"):
        check(read, arrays | {"extra": arrays[next(iter(arrays))]})


def test_short_answers_pass_and_long_ones_do_not() -> None:
    one = {"tokens": np.zeros(1, np.int32), "logp": np.zeros(1, np.float32), "stopped": np.ones(1, np.uint8)}
    assert check(Answer(4), one) is one
    with pytest.raises(HostError, match="<= 4"):
        check(Answer(4), one | {"tokens": np.zeros(5, np.int32)})


def test_a_trace_of_another_width_is_refused() -> None:
    arrays = answer(Trace(2))
    for name in ("ids", "logp"):
        for width in (0, 1, TRACE_TOP - 1):
            with pytest.raises(HostError, match=f"`{name}`.*`trace` request"):
                check(Trace(2), arrays | {name: arrays[name][:, :width]})


@pytest.mark.parametrize("read", EACH, ids=lambda read: read.kind)
def test_the_answer_that_shows_nothing_is_an_answer(read: Read) -> None:
    arrays = nothing(read, (1, 2, 3))
    assert check(read, arrays) is arrays
    assert all(np.isfinite(array).all() for array in arrays.values())
