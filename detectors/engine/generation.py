"""Generation on a batch of uneven rows: each row's answer depends on its own request only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from detectors.engine.batches import Batch, projecting_only, with_room
from detectors.engine.observations import Answer, Arrays, Read


class Generation:
    """Greedy or sampled answers of one batch; each row's choice depends on its own request only."""

    def __init__(self, network: Any, stop_ids: frozenset[int], prefix: Any, batch: Batch) -> None:
        self._network = network
        self._batch = batch
        self._stops = torch.tensor(sorted(stop_ids), device=batch.ids.device)
        self._samplers = [_sampler(read) for read in batch.reads]
        self._temperatures = [read.temperature for read in batch.reads if isinstance(read, Answer)]
        self._limits = [read.max_tokens for read in batch.reads if isinstance(read, Answer)]
        config = network.config.get_text_config(decoder=True)
        self._cache = with_room(prefix, len(batch.lengths), max(self._limits), config)
        lengths = torch.tensor(batch.lengths, device=batch.ids.device)
        self._positions = lengths + batch.shared
        columns = torch.arange(batch.ids.shape[1], device=batch.ids.device)
        own = columns[None] < lengths[:, None]
        self._mask = torch.cat([torch.ones(len(lengths), batch.shared, device=own.device, dtype=torch.bool), own], 1)

    def run(self) -> list[Arrays]:
        """Generates until every row has stopped or reached its limit."""
        logp = self._prefill()
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

    def _prefill(self) -> Tensor:
        width = self._batch.ids.shape[1]
        positions = torch.arange(width, device=self._batch.ids.device)[None] + self._batch.shared
        rows = torch.arange(len(self._batch.lengths), device=positions.device)
        with projecting_only(self._network, rows, self._positions - self._batch.shared - 1):
            output = self._network(
                input_ids=self._batch.ids,
                past_key_values=self._cache,
                attention_mask=self._mask.long(),
                position_ids=positions.expand(len(rows), -1),
                use_cache=True,
            )
        return self._normalise(output.logits[0])

    def _step(self, chosen: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], 1)
        output = self._network(
            input_ids=chosen[:, None],
            past_key_values=self._cache,
            attention_mask=self._mask.long(),
            position_ids=self._positions[:, None],
            use_cache=True,
        )
        self._positions = self._positions + 1
        return self._normalise(output.logits[:, -1])

    def _normalise(self, logits: Tensor) -> Tensor:
        return logits.float().log_softmax(-1)

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
