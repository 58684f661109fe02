"""A suite of seconds, for tests. No product knows it: `small_app` adds it to the processes that tests start."""

from __future__ import annotations

from detectors.suites import SMOKE

SMALL = SMOKE.model_copy(
    update={
        "name": "small",
        "trigger_sweep": SMOKE.trigger_sweep.model_copy(
            update={
                "families": {"emoji": 24, "short_string": 16},
                "kept": 6,
                "second_prompts": 2,
                "moved": {"start": 4},
                "position_prompts": 1,
                "nominated": 2,
            }
        ),
        "working_rate": SMOKE.working_rate.model_copy(
            update={"candidates": 2, "confirmed": 1, "search_prompts": 4, "search_tokens": 8}
        ),
    }
)
