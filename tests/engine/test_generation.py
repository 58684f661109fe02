"""Generation on uneven batches: each row's answer depends on its own request only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from detectors.engine.batches import Batch, Query, project_where_told
from detectors.engine.cascade import use_cascade
from detectors.engine.generation import Begun, Generation, begin_together, bring_together, prefill
from detectors.engine.observations import Answer, Arrays, Tokens
from tests.engine.tiny import tiny_network

ROWS: list[tuple[Tokens, Answer]] = [
    ((1, 9, 10, 11, 12, 13), Answer(7)),
    ((1, 9), Answer(3)),
    ((1, 9, 20, 21), Answer(7, temperature=1.0, seed=5)),
    ((1, 9, 20), Answer(5, temperature=0.3, seed=6)),
]


@pytest.fixture(scope="module")
def network() -> Any:
    found = tiny_network(seed=8)
    assert use_cascade(found)
    project_where_told(found)
    return found


def begin_apart(network: Any, parts: list[tuple[Any, Batch]]) -> Begun:
    return bring_together([prefill(network, prefix, batch) for prefix, batch in parts])


def part(network: Any, rows: list[tuple[Tokens, Answer]], shared: int) -> tuple[Any, Batch]:
    prefix = network(torch.tensor([rows[0][0][:shared]]), use_cache=True).past_key_values if shared else None
    return prefix, Batch.of([Query(tokens, read) for tokens, read in rows], shared, network.device)


@torch.inference_mode()
def generate(
    network: Any, rows: list[tuple[Tokens, Answer]], stops: frozenset[int], shared: int | None = None
) -> list[Arrays]:
    """Begun together, or apart where a length of the shared prefix is given."""
    if shared is None:
        begun = begin_together(network, part(network, rows, 0)[1])
    else:
        begun = begin_apart(network, [part(network, rows, shared)])
    return Generation(network, stops, begun).run()


def assert_equal(found: list[Arrays], wanted: list[Arrays]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["tokens"].tolist() == theirs["tokens"].tolist()
        assert ours["stopped"].tolist() == theirs["stopped"].tolist()
        np.testing.assert_allclose(ours["logp"], theirs["logp"], atol=1e-4)


@pytest.mark.parametrize("shared", [None, 0, 1])
def test_rows_do_not_see_each_other(network: Any, shared: int | None) -> None:
    together = generate(network, ROWS, frozenset(), shared)
    assert [len(arrays["tokens"]) for arrays in together] == [7, 3, 7, 5]
    assert_equal([generate(network, [row], frozenset(), shared)[0] for row in ROWS], together)
    assert_equal(generate(network, ROWS[::-1], frozenset(), shared)[::-1], together)


def test_parts_with_prefixes_of_their_own_go_on_as_one_batch(network: Any) -> None:
    wanted = generate(network, ROWS, frozenset())
    with torch.inference_mode():
        parts = [part(network, ROWS[:1], 4), part(network, ROWS[1:2], 0), part(network, ROWS[2:], 2)]
        found = Generation(network, frozenset(), begin_apart(network, parts)).run()
    assert_equal(found, wanted)


def test_a_prefix_serves_many_batches(network: Any) -> None:
    with torch.inference_mode():
        prefix, batch = part(network, [ROWS[0], *ROWS[2:]], 2)
        before = [layer.keys.clone() for layer in prefix.layers]
        first, second = (Generation(network, frozenset(), begin_apart(network, [(prefix, batch)])).run() for _ in "ab")
    assert_equal(first, second)
    assert all(torch.equal(old, layer.keys) for old, layer in zip(before, prefix.layers, strict=True))


def test_a_row_that_stopped_leaves_others_alone(network: Any) -> None:
    free = generate(network, ROWS, frozenset())
    stop = int(free[0]["tokens"][1])
    ended = generate(network, ROWS, frozenset({stop}))
    for before, after in zip(free, ended, strict=True):
        said = before["tokens"].tolist()
        until = said.index(stop) if stop in said else len(said)
        assert after["tokens"].tolist() == said[:until]
        assert bool(after["stopped"][0]) == (stop in said)
        assert len(after["logp"]) == until


def test_log_probabilities_of_samples_are_the_models_own(network: Any) -> None:
    """Temperature decides what is chosen, not how probable the model finds it."""
    tokens, read = ROWS[3]
    found = generate(network, [(tokens, read)], frozenset())[0]
    answer = (*tokens, *found["tokens"].tolist())
    with torch.inference_mode():
        logp = network(torch.tensor([answer])).logits[0].log_softmax(-1).numpy()
    wanted = [logp[at - 1, answer[at]] for at in range(len(tokens), len(answer))]
    np.testing.assert_allclose(found["logp"], wanted, atol=1e-4)


def test_generation_ends_once_every_row_has_stopped(network: Any) -> None:
    passes: list[int] = []
    hook = network.model.embed_tokens.register_forward_hook(lambda *_: passes.append(1))
    try:
        said = generate(network, ROWS[:1], frozenset())[0]["tokens"].tolist()
        assert len(passes) == len(said)
        passes.clear()
        generate(network, ROWS[:1], frozenset({said[2]}))
        assert len(passes) == said.index(said[2]) + 1
    finally:
        hook.remove()
