"""The engine's passes on a device without data, where arithmetic between devices is an error.

This stands in for a GPU as far as that goes: lookups by indices on another device pass here, and what needs values
(masks of padded rows, choosing tokens, reading answers out) cannot run.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from detectors.engine.batches import Batch, Query
from detectors.engine.forward import Engine
from detectors.engine.generation import bring_together, prefill
from detectors.engine.observations import Answer, NextToken, Read, Tokens
from tests.engine.tiny import tiny_network

VOCABULARY = 300
ROWS: list[Tokens] = [(1, 9, 10, 11, 12), (1, 9, 20), (1, 9, 21, 22)]
SHARED = 2


@pytest.fixture(scope="module")
def network() -> Any:
    return tiny_network(seed=1, vocab=VOCABULARY).to("meta")


@pytest.fixture(scope="module")
def engine(network: Any) -> Engine:
    return Engine(network, stop_ids=frozenset({2}), window=64, memory_budget=2**28)


def batch(network: Any, read: Read, shared: int) -> Batch:
    return Batch.of([Query(tokens, read) for tokens in ROWS], shared, network.device)


@torch.inference_mode()
def test_log_probabilities_behind_a_prefix_stay_on_the_device(engine: Engine, network: Any) -> None:
    asked = batch(network, NextToken(), SHARED)
    prefix = engine._prefix(ROWS[0][:SHARED])
    logp = engine._log_probabilities(prefix, asked, [[length - 1] for length in asked.lengths])
    assert (logp.device.type, tuple(logp.shape)) == ("meta", (len(ROWS), VOCABULARY))


@torch.inference_mode()
def test_rows_that_begin_apart_are_gathered_on_the_device(engine: Engine, network: Any) -> None:
    parts = [
        (engine._prefix(ROWS[0][:SHARED]), batch(network, Answer(4), SHARED)),
        (None, batch(network, Answer(4), 0)),
    ]
    begun = bring_together([prefill(network, prefix, rows) for prefix, rows in parts])
    told = [begun.logp, begun.mask, begun.positions, *(layer.keys for layer in begun.cache.layers)]
    assert {tensor.device.type for tensor in told} == {"meta"}
    assert begun.logp.shape == (2 * len(ROWS), VOCABULARY)


def test_mixing_devices_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.zeros(2, device="meta") + torch.zeros(2)
