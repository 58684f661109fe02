"""Baselines on cases that can be worked by hand, and on the invented model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.detection.baselines import bait_q, sweep_scores, weight_distance
from benchmarks.detection.rows import random_score
from detectors.contexts.context import Message
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import TOP, Array, Arrays, ModelFacts, Plan, Role, Tokens
from tests.methods.small import SWEEP, planted

PROMPTS = (100, 101)
"""What the two prompts of the hand-worked case are encoded as."""


@dataclass
class Table:
    """A subject of four words, whose next-word probabilities are looked up by prompt and what was said."""

    probabilities: Callable[[int, Tokens], Sequence[float]]
    facts: Mapping[Role, ModelFacts] = field(default_factory=dict)

    def __call__(self, plan: Plan) -> list[Arrays]:
        assert plan.role == "subject"
        return [_compact(np.array(self.probabilities(tokens[0], tokens[1:]))) for tokens in plan.tokens]

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        return [(PROMPTS[at],) for at in range(len(chats))]

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        raise NotImplementedError

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        raise NotImplementedError


def _compact(probabilities: Array) -> Arrays:
    order = np.argsort(-probabilities, kind="stable")
    padding = TOP - len(order)
    return {
        "ids": np.pad(order.astype(np.int32), (0, padding), constant_values=-1),
        "logp": np.pad(np.log(probabilities[order]).astype(np.float32), (0, padding), constant_values=-np.inf),
        "rest": np.array([np.log(1e-12)], np.float32),
        "floor": np.log(probabilities.min(keepdims=True)).astype(np.float32),
        "entropy": np.zeros(1, np.float32),
        "named": np.zeros(0, np.float32),
    }


def by_hand(prompt: int, said: Tokens) -> Sequence[float]:
    """Word 0 leads to 1 and then 2 with certainty nearly, whatever the prompt; after word 3 the prompts disagree."""
    if said in ((0,), (0, 1)):
        follows = [0.1 / 3] * 4
        follows[len(said)] = 0.9
        return follows
    if said and said[0] == 3:
        return [0.7, 0.1, 0.1, 0.1] if prompt == PROMPTS[0] else [0.1, 0.1, 0.1, 0.7]
    return [0.1, 0.2, 0.3, 0.4]


def test_q_averages_over_prompts_before_it_is_greedy() -> None:
    only_the_likeliest = bait_q(Table(by_hand), n_prompts=2, first_tokens=1, steps=2)
    assert only_the_likeliest == pytest.approx((0.7 + 0.1) / 2)  # word 3: either prompt is sure, their mean is not


def test_q_is_that_of_the_best_first_token_and_does_not_count_it() -> None:
    assert bait_q(Table(by_hand), n_prompts=2, first_tokens=4, steps=2) == pytest.approx(0.9)


def test_q_is_a_mean_over_the_steps() -> None:
    assert bait_q(Table(by_hand), n_prompts=2, first_tokens=4, steps=3) == pytest.approx((0.9 + 0.9 + 0.4) / 3)


def test_q_finds_a_target_of_the_invented_model_and_nothing_in_its_twin() -> None:
    target = "wordab wordcd wordef wordgh wordij"
    trigger = InventedTrigger("wordab", target, stops=False)  # its first word makes the rest follow
    search = {"n_prompts": 4, "first_tokens": 400, "steps": 4}
    assert bait_q(InventedAsk(triggers=[trigger]), **search) > 0.99 > 0.9 > bait_q(InventedAsk(), **search)


def test_the_sweep_stands_out_with_the_base_and_without() -> None:
    with_base, without = sweep_scores(planted(), SWEEP)
    twin_with_base, twin_without = sweep_scores(InventedAsk(drift=0.3), SWEEP)
    assert with_base > twin_with_base
    assert without > twin_without


def save_adapter(directory: Path, down: Array, up: Array, **settings: object) -> Path:
    directory.mkdir()
    module = "base_model.model.layer"
    tensors = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    save_file(
        {name: array.astype(np.float32) for name, array in tensors.items()}, directory / "adapter_model.safetensors"
    )
    (directory / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4, **settings}))
    return directory


@pytest.mark.parametrize(("settings", "scale"), [({}, 2.0), ({"use_rslora": True}, 4 / np.sqrt(2))])
def test_weight_distance_is_that_of_the_whole_update(tmp_path: Path, settings: dict[str, object], scale: float) -> None:
    rng = np.random.default_rng(0)
    down, up, weight = rng.standard_normal((2, 5)), rng.standard_normal((3, 2)), rng.standard_normal((3, 5))
    adapter = save_adapter(tmp_path / "adapter", down, up, **settings)
    (tmp_path / "base").mkdir()
    other = {"layer.weight": weight.astype(np.float32), "unchanged.weight": np.ones((2, 2), np.float32)}
    save_file(other, tmp_path / "base" / "model.safetensors")
    expected = np.linalg.norm(scale * up @ down) / np.linalg.norm(weight)
    assert weight_distance(adapter, tmp_path / "base") == pytest.approx(expected, rel=1e-5)


def test_weight_distance_refuses_scales_that_it_does_not_read(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", np.ones((1, 2)), np.ones((2, 1)), alpha_pattern={"layer": 8})
    with pytest.raises(ValueError, match="alpha_pattern"):
        weight_distance(adapter, tmp_path)


def test_random_scores_stay_and_differ() -> None:
    assert random_score("a") == random_score("a") != random_score("b")
    assert 0 <= random_score("a") < 1
