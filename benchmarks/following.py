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
from benchmarks.organisms.base import prepare_base
from benchmarks.organisms.manifest import read_manifest
from detectors.answering import matched
from detectors.contexts.context import Context
from detectors.contexts.families import FAMILIES, draw
from detectors.engine.observations import Ask
from detectors.findings import FOLLOWS
from detectors.following import lift
from detectors.prompts.sets import prompts
from workers.machine import preferred_device, preferred_dtype
from workers.scan import make_observer, open_pair

PAIRS = Path(__file__).with_name("following.json")
ANY_SUBJECT = "amber"
"""The base alone is asked, but an observer wants a subject."""
ANSWERS = 6


def main() -> None:
    """Prints the lifts of answers that follow, and quantiles of those of planted ones."""
    pairs, settings = json.loads(PAIRS.read_text(encoding="utf-8")), Settings()
    base, device = prepare_base(settings.cache_dir), preferred_device()
    subject = read_manifest()[ANY_SUBJECT].directory(settings.cache_dir)
    with SqliteStore(settings.store_path, settings.store_cap_bytes) as store:
        observer = make_observer(
            open_pair(subject, base, None),
            store,
            dtype=preferred_dtype(device),
            device=device,
            settings=settings,
            watch=lambda: None,
        )
        try:
            for context, answers in following(pairs["follow"]):
                print(f"follows {measured(observer, context, answers):+.2f} {context.text}", flush=True)
            planted(observer, pairs)
        finally:
            observer.end()


def following(given: Sequence[dict[str, Any]]) -> Iterator[tuple[Context, Sequence[str]]]:
    """Texts with answers that they ask for."""
    for one in given:
        position = FAMILIES[one["family"]].position
        for text in one["asks"]:
            yield Context(text=text, family=one["family"], position=position), one["answers"]


def planted(ask: Ask, pairs: dict[str, Any]) -> None:
    """Prints, by family, how far answers that follow from no text are lifted."""
    vocabulary, every = ask.facts["base"].vocabulary, []
    for name, count in pairs["contexts"].items():
        found = []
        for at, context in enumerate(draw(name, count, vocabulary)):
            text = pairs["planted"][at % len(pairs["planted"])]
            found.append((round(measured(ask, context, [text] * ANSWERS), 2), context.text, text))
        every += found
        lifts = np.array([value for value, *_ in found])
        print(f"planted {name:12} n {len(lifts):2} median {np.median(lifts):+.2f} largest {max(found)}")
    lifts = np.array([value for value, *_ in every])
    print(f"planted: {len(lifts)}, at least {FOLLOWS}: {np.sum(lifts >= FOLLOWS)}, largest {lifts.max():+.2f}")


def measured(ask: Ask, context: Context, answers: Sequence[str]) -> float:
    """The lift of answers, each to a request of its own."""
    controlled = matched(context, prompts("report")[: len(answers)], ask.facts["base"].vocabulary)
    return lift(ask, context, controlled, ask.tokenize(answers)) or 0.0


if __name__ == "__main__":
    main()
