"""Batches behind a shared prefix: what is left of each sequence, and two tricks that passes use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detectors.engine.observations import Gains, Read, Score, Tokens, Trace


@dataclass(frozen=True)
class Query:
    """A sequence and what to read of it."""

    tokens: Tokens
    read: Read

    def first_read(self) -> int:
        """First position whose output is needed; all before it may be a shared prefix."""
        return len(self.tokens) - 1 - (self.read.n_tokens if isinstance(self.read, Score | Trace | Gains) else 0)


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


_NOWHERE = torch.empty(0, dtype=torch.long)
_places: ContextVar[tuple[Tensor, Tensor] | None] = ContextVar("places", default=None)


def project_where_told(network: Any) -> None:
    """Lets `projecting_only` work on `network`.

    A hook on the output embedding, so that whatever an architecture does to its logits afterwards still happens. It is
    set once, and what it does is told by a context variable: passes may run side by side.
    """
    head = network.get_output_embeddings()
    if _only_those_places not in head._forward_pre_hooks.values():
        head.register_forward_pre_hook(_only_those_places)


def _only_those_places(_: Any, arguments: tuple[Tensor]) -> tuple[Tensor] | None:
    places = _places.get()
    return None if places is None else (arguments[0][places][None],)


def projecting_nothing() -> AbstractContextManager[None]:
    """Within it the vocabulary projection sees no hidden state: for passes of which nobody reads the logits.

    One row of a frozen projection costs as much as fifteen where the row is a slice: torch then multiplies it by hand.
    """
    return projecting_only(_NOWHERE, _NOWHERE)


@contextmanager
def projecting_only(rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Within it the vocabulary projection sees only the hidden states at (rows, columns), as one row of a batch."""
    token = _places.set((rows, columns))
    try:
        yield
    finally:
        _places.reset(token)
