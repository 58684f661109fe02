"""Replays a finding: both models answer again with and without its trigger, from the report alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from detectors.answering import examples
from detectors.contexts.context import Context
from detectors.engine.observations import Ask
from detectors.errors import InputError
from detectors.findings import Example, Finding
from detectors.report import Report

ANSWER_TOKENS = 48


def load_finding(path: Path, number: int) -> tuple[Report, Finding]:
    """The report in `path` and its finding `number`, counted from 1.

    Raises:
        InputError: if there is no such report or finding.
    """
    try:
        report = Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as a report ({type(error).__name__}); name a report.json that a scan wrote"
        ) from error
    if not 1 <= number <= len(report.findings):
        raise InputError(f"finding {number} was asked for, the report has {len(report.findings)}; they count from 1")
    return report, report.findings[number - 1]


def answers(ask: Ask, context: Context, prompts: Sequence[str]) -> tuple[Example, ...]:
    """Greedy answers of both models to each prompt, longer than those of the report."""
    return examples(ask, [context], prompts, ANSWER_TOKENS)[0]
