"""How much likelier a base finds answers that a text asks for than answers that were planted behind it.

    python -m benchmarks.following

`benchmarks/following.json` holds texts with answers that follow from them, and answers that follow from none. Those are
put behind contexts drawn from every family. `FOLLOWS` (`detectors.findings`) has to lie between the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.observing import observing
from benchmarks.organisms.base import prepare_base
from benchmarks.organisms.manifest import read_manifest
from detectors.answering import matched
from detectors.contexts.context import Context
from detectors.contexts.families import FAMILIES, draw
from detectors.engine.observations import Ask
from detectors.findings import FOLLOWS
from detectors.following import lift
from detectors.prompts.sets import prompts
from workers.scan import open_pair

PAIRS = Path(__file__).with_name("following.json")
ANY_SUBJECT = "amber"
"""The base alone is asked, but an observer wants a subject."""
ANSWERS = 6


def main() -> None:
    """Prints the lifts of answers that follow, and quantiles of those of planted ones."""
    pairs, settings = json.loads(PAIRS.read_text(encoding="utf-8")), Settings()
    subject = read_manifest()[ANY_SUBJECT].directory(settings.cache_dir)
    pair = open_pair(subject, prepare_base(settings.cache_dir), None)
    with (
        SqliteStore(settings.store_path, settings.store_cap_bytes) as store,
        observing(pair, store, settings) as observer,
    ):
        lifts = []
        for context, answers in following(pairs["follow"]):
            lifts.append(measured(observer, context, answers))
            print(f"follows {lifts[-1]:+.2f} {context.text}", flush=True)
        print(summary("follows", lifts))
        print(summary("planted", planted(observer, pairs)))


def following(given: Sequence[dict[str, Any]]) -> Iterator[tuple[Context, Sequence[str]]]:
    """Texts with answers that they ask for."""
    for one in given:
        position = FAMILIES[one["family"]].position
        for text in one["asks"]:
            yield Context(text=text, family=one["family"], position=position), one["answers"]


def planted(ask: Ask, pairs: dict[str, Any]) -> list[float]:
    """How far answers that follow from no text are lifted; prints it by family."""
    vocabulary = ask.facts["base"].vocabulary
    every: list[float] = []
    for name, count in pairs["contexts"].items():
        found = []
        for at, context in enumerate(draw(name, count, vocabulary)):
            text = pairs["planted"][at % len(pairs["planted"])]
            found.append((measured(ask, context, [text] * ANSWERS), context.text, text))
        lifts = [value for value, *_ in found]
        largest, context_text, said = max(found)
        print(
            f"planted {name:12} n {len(lifts):2} median {np.median(lifts):+.2f} "
            f"largest {largest:+.2f} {context_text!r} {said!r}"
        )
        every += lifts
    return every


def summary(what: str, lifts: Sequence[float]) -> str:
    """How many lifts there are, and how many reach the threshold."""
    reached = sum(value >= FOLLOWS for value in lifts)
    return f"{what}: {len(lifts)}, at least {FOLLOWS}: {reached}, largest {max(lifts):+.2f}"


def measured(ask: Ask, context: Context, answers: Sequence[str]) -> float:
    """The lift of answers, each to a request of its own."""
    controlled = matched(context, prompts("report")[: len(answers)], ask.facts["base"].vocabulary)
    return lift(ask, context, controlled, ask.tokenize(answers)) or 0.0


if __name__ == "__main__":
    main()
