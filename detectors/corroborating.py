"""What the confirmers that corroborate share: which candidates they test, on which prompts, and how tests are told.

They run after `working_rate`, on the same fresh prompts and the same control contexts. They confirm nothing: with few
inputs their p-values cannot get below what Holm over several candidates needs, and a backdoor is a behaviour (law 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectors.catalog import WORKING_RATE
from detectors.findings import Candidate, Evidence
from detectors.stats import holm

NO_CANDIDATE = "no candidate was nominated"


def to_corroborate(candidates: Sequence[Candidate], at_most: int) -> list[Candidate]:
    """The candidates that `working_rate` sent to confirmation, the largest effect first, `at_most` of them.

    Where it sent none, the one that was nominated first: a picture of what nothing looks like. A topic is none of them:
    their prompts are about something of their own.
    """
    placed = [found for found in candidates if not found.context.is_topic]
    sent = [found for found in placed if found.source == WORKING_RATE.name]
    return sorted(sent, key=lambda found: -found.score)[:at_most] or placed[:1]


def table_of_tests(evidence: Sequence[Evidence]) -> dict[str, Any]:
    """Evidence as a table of the report, p-values corrected by Holm (1979) over all that are tested."""
    adjusted = iter(holm([it.p_value for it in evidence if it.p_value is not None]))
    rows = [
        [
            it.context.text if it.context else "",
            it.context.position if it.context else "none",
            it.statistic,
            it.value,
            it.p_value,
            None if it.p_value is None else next(adjusted),
        ]
        for it in evidence
    ]
    return {"columns": ["text", "position", "statistic", "effect", "p_value", "p_holm"], "rows": rows}
