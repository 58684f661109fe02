"""Batches behind a shared prefix: what is left of each sequence, and the two tricks every pass uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from detectors.engine.observations import Read, Score, Tokens


@dataclass(frozen=True)
class Query:
    """A sequence and what to read of it."""

    tokens: Tokens
    read: Read

    def first_read(self) -> int:
        """First position whose output is needed; all before it may be a shared prefix."""
        return len(self.tokens) - 1 - (self.read.n_tokens if isinstance(self.read, Score) else 0)


@dataclass(frozen=True)
class Batch:
    """What is left of each sequence behind the shared prefix.

    Attributes:
        ids: int64 [row, longest], padded on the right with zeros.
        lengths: unpadded lengths.
        reads: what to read of each row.
        shared: length of the prefix before them.
    """

    ids: Tensor
    lengths: list[int]
    reads: list[Read]
    shared: int

    @classmethod
    def of(cls, queries: Sequence[Query], shared: int, device: Any) -> Batch:
        """The batch of `queries` behind their first `shared` tokens."""
        tails = [query.tokens[shared:] for query in queries]
        width = max(len(tail) for tail in tails)
        ids = torch.tensor([[*tail, *[0] * (width - len(tail))] for tail in tails], device=device)
        return cls(ids, [len(tail) for tail in tails], [query.read for query in queries], shared)


def widen(prefix: Any, rows: int) -> Any:
    """The prefix's cache for `rows` rows, without copying: each layer's first update makes its own tensors."""
    if prefix is None:
        return None
    widened = copy(prefix)
    widened.layers = [copy(layer) for layer in prefix.layers]
    for layer in widened.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return widened


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """Keys and values with room for `room` further positions, so that a new token copies nothing of the rest."""

    keys: Tensor
    values: Tensor

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._states: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """All keys and values so far: [row, kv_head, position, size], views of the buffers."""
        before = self.get_seq_length()
        if self._states is None:
            self._states = self._with_room(key_states, before), self._with_room(value_states, before)
            if before:
                self._write(0, self.keys, self.values)
        self._write(before, key_states, value_states)
        end = before + key_states.shape[2]
        self.keys, self.values = (states[:, :, :end] for states in self._states)
        self.is_initialized = True
        return self.keys, self.values

    def _with_room(self, states: Tensor, before: int) -> Tensor:
        rows, heads, width, size = states.shape
        return states.new_empty(rows, heads, before + width + self._room, size)

    def _write(self, start: int, *given: Tensor) -> None:
        for states, new in zip(self._states or (), given, strict=True):
            states[:, :, start : start + new.shape[2]] = new


def with_room(prefix: Any, rows: int, room: int, config: Any) -> Any:
    """A cache for `rows` rows behind the prefix, if there is one, that takes `room` tokens after the first pass."""
    cache = DynamicCache(config=config) if prefix is None else widen(prefix, rows)
    for place, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[place] = roomy = RoomyLayer(room)
            if prefix is not None:
                roomy.keys, roomy.values, roomy.is_initialized = layer.keys, layer.values, True
    return cache


@contextmanager
def projecting_only(network: Any, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Within it the vocabulary projection sees only the hidden states at (rows, columns), as one row of a batch.

    A hook on the output embedding, so that whatever an architecture does to its logits afterwards still happens.
    """
    hook = network.get_output_embeddings().register_forward_pre_hook(
        lambda _, arguments: (arguments[0][rows, columns][None],)
    )
    try:
        yield
    finally:
        hook.remove()
