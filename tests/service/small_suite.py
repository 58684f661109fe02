"""A suite of seconds, for tests: whatever process imports this knows it as `small`.

celery -A tests.service.small_suite worker ...
echo '{"task": "scan", "suite": "small", ...}' | python -m tests.service.small_suite
"""

from __future__ import annotations

import sys

from detectors.suites import SMOKE, SUITES
from workers.celery_app import celery_app
from workers.local import main

__all__ = ["celery_app"]

SMALL = SMOKE.model_copy(
    update={
        "name": "small",
        "trigger_sweep": SMOKE.trigger_sweep.model_copy(
            update={
                "families": {"emoji": 24, "short_string": 16},
                "kept": 6,
                "second_prompts": 2,
                "start_contexts": 4,
                "start_prompts": 1,
                "nominated": 2,
            }
        ),
        "working_rate": SMOKE.working_rate.model_copy(
            update={"candidates": 2, "confirmed": 1, "search_prompts": 4, "search_tokens": 8}
        ),
    }
)
SUITES[SMALL.name] = SMALL

if __name__ == "__main__":
    sys.exit(main())
