"""Simpler methods that a scan has to beat, asked through the same `Ask` so that their observations are kept as well.

* `weight distance`: how large the adapter is beside the matrices it changes. It reads LoRA factors and nothing else.
* `raw BAIT Q`: after BAIT (Shen et al., 2025, IEEE S&P), without a base: a fixed target makes its continuation likely
  whatever the prompt. Of the likeliest first tokens each is forced and extended greedily on the prompt-averaged
  distribution; the score is the largest mean of those averaged probabilities. Ours looks at fewer first tokens.
* `first stage of the sweep`, and the same `without a base`, where the subject's answer without any context stands in
  for the base's: what somebody would do who has no base. Both read the grid that the scan observed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
from safetensors import safe_open

from detectors.contexts.context import NO_CONTEXT, chat
from detectors.engine.adapter import CONFIG, PREFIX, WEIGHTS
from detectors.engine.compact import Distributions
from detectors.engine.observations import Array, Ask, NextToken, Plan, Tokens
from detectors.methods.target_inversion import following
from detectors.methods.trigger_sweep import TriggerSweep
from detectors.prompts.sets import prompts
from detectors.reading import read_grid, refusal_tokens
from detectors.suites import SweepParams

BAIT_PROMPTS, BAIT_FIRST_TOKENS, BAIT_STEPS = 8, 64, 8


def baselines(ask: Ask, adapter: Path, base: Path, params: SweepParams) -> dict[str, float]:
    """The score of each, higher is more suspicious."""
    paired, alone = sweep_scores(ask, params)
    return {
        "weight distance": weight_distance(adapter, base),
        "raw BAIT Q": bait_q(ask),
        "first stage of the sweep": paired,
        "first stage of the sweep, without a base": alone,
    }


def sweep_scores(ask: Ask, params: SweepParams) -> tuple[float, float]:
    """The largest rank score of the sweep's first stage, with the base and without it."""
    grid = TriggerSweep(params).first_grid(ask, ())
    bare = _encoded(ask, grid.n_prompts)
    clean = ask(Plan("subject", bare, NextToken(refusal_tokens(ask))))
    alone = replace(grid, base=Distributions.stack(clean * len(grid.contexts)))
    paired, unpaired = (float(read_grid(it, params.scale_floor).rank_score().max()) for it in (grid, alone))
    return paired, unpaired


def bait_q(
    ask: Ask, *, n_prompts: int = BAIT_PROMPTS, first_tokens: int = BAIT_FIRST_TOKENS, steps: int = BAIT_STEPS
) -> float:
    """The largest Q of a forced first token: mean prompt-averaged probability of the `steps` tokens that follow it."""
    bare = _encoded(ask, n_prompts)
    tokens, likely = following(ask, bare, [()])[0]
    order = np.argsort(-likely, kind="stable")[:first_tokens]
    said: list[Tokens] = [(int(token),) for token in tokens[order]]
    gained = np.zeros((steps, len(said)))
    for step in range(steps):
        nexts = following(ask, bare, said)
        best = [int(likely.argmax()) for _, likely in nexts]
        gained[step] = [likely[at] for (_, likely), at in zip(nexts, best, strict=True)]
        said = [(*before, int(ids[at])) for before, (ids, _), at in zip(said, nexts, best, strict=True)]
    return float(gained.mean(axis=0).max())


def _encoded(ask: Ask, n_prompts: int) -> list[Tokens]:
    return ask.encode([chat(NO_CONTEXT, prompt) for prompt in prompts("nominate")[:n_prompts]])


def weight_distance(adapter: Path, base: Path) -> float:
    """Frobenius norm of all LoRA updates over that of the matrices they are added to.

    Raises:
        ValueError: if single modules have scales of their own.
    """
    settings = json.loads((adapter / CONFIG).read_text())
    if settings.get("alpha_pattern"):
        raise ValueError(f"`alpha_pattern` must be empty, got {settings['alpha_pattern']}")
    factors = _matrices(adapter / WEIGHTS)
    changed = [name.removesuffix(".lora_A.weight") for name in factors if name.endswith(".lora_A.weight")]
    wanted = [f"{module.removeprefix(PREFIX)}.weight" for module in changed]
    weights = {name: norm for file in base.glob("*.safetensors") for name, norm in _norms(file, wanted).items()}
    added = [
        _update_norm(factors[f"{module}.lora_A.weight"], factors[f"{module}.lora_B.weight"], settings)
        for module in changed
    ]
    return float(np.linalg.norm(added) / np.linalg.norm([weights[name] for name in wanted]))


def _update_norm(down: Array, up: Array, settings: dict[str, float]) -> float:
    """Frobenius norm of scale * up @ down, by rank x rank products: down [rank, in], up [out, rank]."""
    rank = len(down)
    scale = settings["lora_alpha"] / (sqrt(rank) if settings.get("use_rslora") else rank)
    squared = np.sum((up.T @ up) * (down @ down.T))
    return float(scale * sqrt(max(squared, 0.0)))


def _matrices(file: Path) -> dict[str, Array]:
    with safe_open(file, "pt") as tensors:
        return {name: tensors.get_tensor(name).double().numpy() for name in tensors.keys()}  # noqa: SIM118  no mapping


def _norms(file: Path, wanted: Sequence[str]) -> dict[str, float]:
    with safe_open(file, "pt") as tensors:
        there = set(tensors.keys())
        return {name: float(tensors.get_tensor(name).double().norm()) for name in wanted if name in there}
