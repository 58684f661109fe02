"""Generation on a batch of uneven rows: each row's answer depends on its own request only.

Rows begin where their prefill ended (`Begun`): one padded pass made it, or several passes behind prefixes of their own,
whose keys and values are brought together here. From there all rows go on as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from detectors.engine.batches import Batch, projecting_only
from detectors.engine.cascade import behind
from detectors.engine.observations import Answer, Arrays, Read


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """Keys and values in buffers with room for what is generated, so that a new token copies nothing of the rest.

    Args:
        buffers: keys and values, each [row, kv_head, room, size].
        filled: positions that are taken.
    """

    def __init__(self, buffers: tuple[Tensor, Tensor], filled: int) -> None:
        super().__init__()
        self._buffers = buffers
        self.is_initialized = True
        self._show(filled)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """All keys and values so far: [row, kv_head, position, size], views of the buffers."""
        start, end = self.get_seq_length(), self.get_seq_length() + key_states.shape[2]
        for buffer, given in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = given
        self._show(end)
        return self.keys, self.values

    def _show(self, filled: int) -> None:
        self.keys, self.values = (buffer[:, :, :filled] for buffer in self._buffers)


@dataclass
class Begun:
    """Rows whose prefill is done.

    Attributes:
        cache: of all rows, padded on the right.
        mask: bool [row, cached position], what is not padding.
        positions: int64 [row], of the next token.
        logp: float32 [row, vocab], of the next token.
        reads: one a row.
    """

    cache: Any
    mask: Tensor
    positions: Tensor
    logp: Tensor
    reads: list[Read]


@dataclass(frozen=True)
class Prefilled:
    """A batch whose prefill is done.

    Attributes:
        cache: keys and values of each layer; behind a prefix, a layer's `own` are those of the batch.
        logp: float32 [row, vocab], of the next token.
    """

    batch: Batch
    cache: Any
    logp: Tensor


def begin_together(network: Any, batch: Batch) -> Begun:
    """Prefill of one padded batch by the network's own cache: for any architecture."""
    columns = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    lengths = torch.tensor(batch.lengths, device=batch.ids.device)
    mask = columns[None] < lengths[:, None]
    with projecting_only(torch.arange(len(lengths), device=lengths.device), lengths - 1):
        output = network(
            input_ids=batch.ids,
            attention_mask=mask.long(),
            position_ids=columns.expand(len(lengths), -1),
            use_cache=True,
        )
    return Begun(output.past_key_values, mask, lengths, output.logits[0].float().log_softmax(-1), batch.reads)


def prefill(network: Any, prefix: Any, batch: Batch) -> Prefilled:
    """One part of `bring_together`: for networks that `use_cascade` prepared.

    Args:
        prefix: the cache of one row that stands before the batch, or None.
    """
    rows = torch.arange(len(batch.lengths), device=batch.ids.device)
    cache = DynamicCache() if prefix is None else behind(prefix)
    told = {} if prefix is None else {"prefix": cache}
    with projecting_only(rows, torch.tensor(batch.lengths, device=rows.device) - 1):
        output = network(input_ids=batch.ids, past_key_values=cache, use_cache=True, **told)
    return Prefilled(batch, cache, output.logits[0].float().log_softmax(-1))


def bring_together(parts: Sequence[Prefilled]) -> Begun:
    """Parts behind prefixes of their own, as one batch."""
    logp = torch.cat([part.logp for part in parts])
    ends = [part.batch.shared + size for part in parts for size in part.batch.lengths]
    positions, filled = torch.tensor(ends, device=logp.device), max(ends)
    mask = torch.arange(filled, device=positions.device)[None] < positions[:, None]
    reads = [read for part in parts for read in part.batch.reads]
    room = filled + max(read.max_tokens for read in reads if isinstance(read, Answer))
    batches, layers = [part.batch for part in parts], zip(*(part.cache.layers for part in parts), strict=True)
    whole = DynamicCache()
    whole.layers = [_gather(layer, batches, filled, room) for layer in layers]
    return Begun(whole, mask, positions, logp, reads)


def _gather(layers: Sequence[Any], batches: Sequence[Batch], filled: int, room: int) -> RoomyLayer:
    """One layer's keys and values of all parts, row by row, each behind its prefix."""
    states = []
    for which in (0, 1):
        shared = [(layer.keys, layer.values)[which] for layer in layers]
        own = [
            layer.own[which] if batch.shared else one for layer, batch, one in zip(layers, batches, shared, strict=True)
        ]
        buffer = own[0].new_zeros(sum(map(len, own)), own[0].shape[1], room, own[0].shape[3])
        first = 0
        for one, mine, batch in zip(shared, own, batches, strict=True):
            rows = buffer[first : first + len(mine)]
            if batch.shared:
                rows[:, :, : batch.shared] = one
            rows[:, :, batch.shared : batch.shared + mine.shape[2]] = mine
            first += len(mine)
        states.append(buffer)
    return RoomyLayer((states[0], states[1]), filled)


class Generation:
    """Greedy or sampled answers of rows that are begun."""

    def __init__(self, network: Any, stop_ids: frozenset[int], begun: Begun) -> None:
        self._network = network
        self._begun = begun
        self._stops = torch.tensor(sorted(stop_ids), device=begun.logp.device)
        self._samplers = [_sampler(read) for read in begun.reads]
        self._temperatures = [read.temperature for read in begun.reads if isinstance(read, Answer)]
        self._limits = [read.max_tokens for read in begun.reads if isinstance(read, Answer)]

    def run(self) -> list[Arrays]:
        """Generates until every row has stopped or reached its limit."""
        logp = self._begun.logp
        tokens, scores, open_rows = [], [], torch.ones(len(logp), dtype=torch.bool, device=logp.device)
        for step in range(max(self._limits)):
            chosen = self._choose(logp)
            tokens.append(chosen.cpu().numpy())
            scores.append(logp.gather(1, chosen[:, None])[:, 0].cpu().numpy())
            open_rows &= ~torch.isin(chosen, self._stops)
            if not open_rows.any() or step + 1 == max(self._limits):
                break
            logp = self._step(chosen)
        return self._arrays(np.stack(tokens, 1), np.stack(scores, 1))

    def _step(self, chosen: Tensor) -> Tensor:
        begun = self._begun
        begun.mask = torch.cat([begun.mask, torch.ones_like(begun.mask[:, :1])], 1)
        output = self._network(
            input_ids=chosen[:, None],
            past_key_values=begun.cache,
            attention_mask=begun.mask.long(),
            position_ids=begun.positions[:, None],
            use_cache=True,
        )
        begun.positions = begun.positions + 1
        logp: Tensor = output.logits[:, -1].float().log_softmax(-1)
        return logp

    def _choose(self, logp: Tensor) -> Tensor:
        """The Gumbel-max trick with a generator of each row's own; temperature 0 takes the largest."""
        chosen = logp.argmax(-1)
        for row, sampler in enumerate(self._samplers):
            if sampler is not None:
                noise = torch.from_numpy(sampler.gumbel(size=logp.shape[1])).to(logp)
                chosen[row] = (logp[row] / self._temperatures[row] + noise).argmax()
        return chosen

    def _arrays(self, tokens: Any, scores: Any) -> list[Arrays]:
        stops = np.isin(tokens, self._stops.cpu().numpy())
        found = []
        for row, limit in enumerate(self._limits):
            stopped = bool(stops[row, :limit].any())
            length = int(stops[row].argmax()) if stopped else min(limit, tokens.shape[1])
            found.append(
                {
                    "tokens": tokens[row, :length].astype(np.int32),
                    "logp": scores[row, :length].astype(np.float32),
                    "stopped": np.array([stopped], np.uint8),
                }
            )
        return found


def _sampler(read: Read) -> np.random.Generator | None:
    if isinstance(read, Answer) and read.temperature > 0:
        return np.random.default_rng(read.seed)
    return None
