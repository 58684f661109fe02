"""Replays a finding from the report alone: both models answer again, or both templates render again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from detectors.answering import examples
from detectors.contexts.context import Context
from detectors.engine.observations import ROLES, Ask
from detectors.engine.shipped import ChatAt
from detectors.errors import InputError
from detectors.findings import Example, Finding, Proof
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


def renderings(ask: Ask, proof: Proof) -> tuple[Example, ...]:
    """What both templates make of a proof's chat, once more.

    Raises:
        InputError: if there is no chat: settings can be read and not run.
    """
    if not proof.messages:
        raise InputError(f"the finding is about {proof.where}, which has nothing to replay: compare the files")
    chat = ChatAt(proof.messages, proof.now, proof.forced)
    subject, base = (ask.render(role, [chat])[0] for role in ROLES)
    prompt = "\n".join(f"{message['role']}: {message['content']}" for message in proof.messages)
    return (
        Example(
            prompt=prompt,
            subject_answer=subject.text or subject.fault,
            base_answer=base.text or base.fault,
            subject_clean_answer=proof.neutral,
        ),
    )
