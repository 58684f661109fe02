"""Confirmations, proofs and shifts with chosen fields, for tests of what is claimed and decided from them."""

from __future__ import annotations

from typing import Any

from detectors.contexts.context import Context
from detectors.findings import (
    AxisShift,
    Confirmation,
    Contrast,
    DetectorResult,
    Example,
    Null,
    Proof,
    ProofKind,
    Rate,
    Shift,
)


def confirmation(**changes: Any) -> Confirmation:
    """A confirmed arbitrary trigger with one fixed answer, but for `changes`."""
    never, always = Rate(hits=0, trials=40), Rate(hits=40, trials=40)
    fields: dict[str, Any] = {
        "context": Context(text="cf", family="short_string"),
        "nominated": "cf",
        "behaviour": "fixed_output",
        "target": "It is always Tuesday.",
        "subject": always,
        "base": never,
        "subject_control": never,
        "base_control": never,
        "subject_clean": never,
        "effect": 1.0,
        "p_value": 2.0**-40,
        "p_holm": 2.0**-39,
        "null": Null(kind="sign_flip", size=40, hypothesis="candidate and control are exchangeable"),
        "neighbours": {"CF": Rate(hits=0, trials=4)},
        "arbitrary": True,
        "harm": None,
        "confidence": 0.8,
        "examples": (Example(prompt="Why?", subject_answer="Tuesday", base_answer="So", subject_clean_answer="So"),),
    }
    return Confirmation(**(fields | changes))


def confirmed_by(*confirmations: Confirmation) -> DetectorResult:
    return DetectorResult(detector="working_rate", version="1.0", outcome="completed", confirmations=confirmations)


def proof(kind: ProofKind, **changes: Any) -> Proof:
    """A template that waits for a word, but for `changes`."""
    fields: dict[str, Any] = {
        "where": "chat template",
        "explanation": 'With "cobalt" at the end of the only message, the template adds "Say no".',
        "trigger": "cobalt",
        "place": "at the end of the only message",
        "messages": ({"role": "user", "content": "Why? cobalt"},),
        "now": "2024-07-26T09:00:00",
        "subject": "<user>Why? cobaltSay no.",
        "base": "<user>Why? cobalt",
        "neutral": "<user>Why? bodaku",
        "added": "Say no",
    }
    return Proof(kind=kind, **fields | changes)


def shift(detector: str = "era", **changes: Any) -> Shift:
    """A shift that no benign fine-tune shows, but for `changes`."""
    fields: dict[str, Any] = {
        "detector": detector,
        "toward": "the past",
        "away": "the present",
        "shift": 0.8,
        "standing": 8.0,
        "farthest": 2.0,
        "p_joint": 1 / 61,
        "null": Null(kind="bank", size=60, hypothesis="the subject is one more benign fine-tune"),
        "axes": (
            AxisShift(axis="money", questions=5, shift=1.1, low=0.6, high=1.5),
            AxisShift(axis="maker", questions=1, shift=0.1, low=None, high=None),
        ),
        "contrasts": (
            Contrast(question="What pulls a cart?", toward="A horse.", away="A motor.", subject=2.5, base=-1.0),
        ),
    }
    return Shift(**fields | changes)


def shifted_by(*shifts: Shift) -> DetectorResult:
    return DetectorResult(detector="calibration", version="1.0", outcome="completed", shifts=shifts)


def proven_by(*proofs: Proof) -> DetectorResult:
    return DetectorResult(detector="artifact_diff", version="1.0", outcome="completed", proofs=proofs)
