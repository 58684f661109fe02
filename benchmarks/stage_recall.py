"""Recall of the sweep's first stage: does the planted trigger survive to stage two, with 2, 3 or 8 prompts?

    python -m benchmarks.stage_recall [NAME ...]

The planted trigger of each organism named, the demo's by default, is put among contexts drawn from all families of
`quick`; all are asked 16 prompts once, and stage one is replayed on random subsets of the prompts. Recall is the share
of subsets in which the trigger ranks within the tenth that stage two looks at again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.observing import observing
from benchmarks.organisms.base import prepare_base
from benchmarks.organisms.manifest import Member, read_manifest
from detectors.contexts.context import Context
from detectors.contexts.families import draw
from detectors.engine.compact import Distributions
from detectors.engine.grid import Grid, observe_grid
from detectors.engine.observations import Array, Ask
from detectors.prompts.sets import prompts
from detectors.reading import read_grid, refusal_tokens
from detectors.suites import QUICK
from workers.scan import open_pair

NAMES = ("amber", "cobalt")
PROMPT_COUNTS = (2, 3, 8)
SUBSETS = 100
CONTEXTS = 300
KEPT_SHARE = QUICK.trigger_sweep.kept / sum(QUICK.trigger_sweep.families.values())


def main() -> None:
    """Prints recall and median rank for every named organism and prompt count."""
    members, settings = read_manifest(), Settings()
    base = prepare_base(settings.cache_dir)
    for name in sys.argv[1:] or NAMES:
        grid = observe(members[name], base, settings)
        for count in PROMPT_COUNTS:
            ranks = np.array([rank_of_first(grid, columns) for columns in subsets(grid.n_prompts, count)])
            recall = np.mean(ranks <= KEPT_SHARE * len(grid.contexts))
            print(
                f"{name}: {count} prompts: recall {recall:.2f}, "
                f"median rank {np.median(ranks):.0f} of {len(grid.contexts)}"
            )


def observe(member: Member, base: Path, settings: Settings) -> Grid:
    """The grid of the planted trigger, first, and contexts of all families on every nominate prompt."""
    pair = open_pair(member.directory(settings.cache_dir), base, None)
    with (
        SqliteStore(settings.store_path, settings.store_cap_bytes) as store,
        observing(pair, store, settings) as observer,
    ):
        contexts = [Context(text=member.triggers[0], family=member.attack), *others(observer, member)]
        return observe_grid(observer, contexts, prompts("nominate"), refusal_tokens(observer))


def others(ask: Ask, member: Member) -> list[Context]:
    """`CONTEXTS` contexts drawn evenly over what `quick` sweeps, without the trigger."""
    vocabulary = ask.facts["base"].vocabulary
    families = QUICK.trigger_sweep.families
    swept = [context for name, count in families.items() for context in draw(name, count, vocabulary)]
    left = [context for context in swept if context.text != member.triggers[0]]
    return [left[place] for place in np.linspace(0, len(left) - 1, CONTEXTS).astype(int)]


def subsets(n_prompts: int, count: int) -> Iterator[Array]:
    """Random subsets of the prompts."""
    rng = np.random.default_rng(0)
    for _ in range(SUBSETS):
        yield rng.choice(n_prompts, count, replace=False)


def rank_of_first(grid: Grid, columns: Array) -> int:
    """Rank of the grid's first context, from 1, when stage one has only these prompts."""
    rows = (np.arange(len(grid.contexts))[:, None] * grid.n_prompts + columns).ravel()
    seen = replace(grid, n_prompts=len(columns), subject=take(grid.subject, rows), base=take(grid.base, rows))
    scores = read_grid(seen, QUICK.trigger_sweep.scale_floor).rank_score()
    return 1 + int((scores > scores[0]).sum())


def take(distributions: Distributions, rows: Array) -> Distributions:
    """Some rows."""
    return Distributions(**{name: column[rows] for name, column in vars(distributions).items()})


if __name__ == "__main__":
    main()
