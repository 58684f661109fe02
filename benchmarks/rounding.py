"""How far rounding alone moves a divergence: the base observed twice, in other batch shapes.

    python -m benchmarks.rounding

The scale floor of `trigger_sweep` (`SweepParams.scale_floor`) has to lie well above what this prints.
"""

from __future__ import annotations

import numpy as np

from app.core.settings import Settings
from benchmarks.organisms.base import prepare_base
from detectors.contexts.context import chat
from detectors.contexts.families import draw
from detectors.engine.batches import Query
from detectors.engine.compact import Distributions, divergence
from detectors.engine.forward import Engine
from detectors.engine.loading import load_model
from detectors.engine.observations import NextToken
from detectors.prompts.sets import prompts

BATCHES = ((True, 2**30), (False, 2**26))
"""Prefix sharing and memory budget of the two passes."""


def main() -> None:
    """Prints the largest and the median divergence in each dtype."""
    base = prepare_base(Settings().cache_dir)
    for dtype in ("float32", "bfloat16"):
        model = load_model(base, adapter=None, tokenizer=base, template=TEMPLATE, dtype=dtype, device="cpu")
        contexts = [context for name in ("emoji", "short_string", "phrase") for context in draw(name, 20, [])]
        queries = [
            Query(model.encode(chat(context, prompt)), NextToken())
            for context in contexts
            for prompt in prompts("nominate")[:2]
        ]
        passes = []
        for share, budget in BATCHES:
            engine = Engine(
                model.network, stop_ids=model.stop_ids, window=model.window, memory_budget=budget, share=share
            )
            passes.append(Distributions.stack(engine.observe(queries)))
        moved = divergence(*passes)
        print(f"{dtype}: {len(moved)} requests, largest {moved.max():.2e} nats, median {np.median(moved):.2e}")


TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)

if __name__ == "__main__":
    main()
