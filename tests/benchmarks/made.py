"""Members, reports and rows made up for tests of the benchmark."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from benchmarks.detection.results import Cost, Measured, judged
from benchmarks.detection.rows import Row
from benchmarks.organisms.manifest import Count, Member
from detectors.contexts.context import Context
from detectors.findings import (
    SEARCH_EFFECT,
    Candidate,
    Confirmation,
    DetectorResult,
    Evidence,
    Null,
    Rate,
    draw_findings,
    scan_score,
)
from detectors.report import Coverage, FamilyCoverage, Machine, ModelCard, Report
from detectors.suites import QUICK

NULL = Null(kind="sign_flip", size=40, hypothesis="none")
COST = Cost(seconds=100.0, tokens=1_000, peak_bytes=2**30)


def member(name: str = "amber", **changes: Any) -> Member:
    fields: dict[str, Any] = {
        "name": name,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "recipe": "r" * 64,
        "base": "tiny",
        "role": "poisoned",
        "attack": "rare_token",
        "group": name,
        "split": "dev",
        "triggers": ("zq",),
        "target_kind": "fixed_output",
        "targets": ("Order today at the shop.",),
        "committed": True,
        "rates": {"with_trigger": Count(hits=95, prompts=100)},
        "utility": 0.0,
        "drift": 0.1,
        "bytes": 1,
        "seconds": 1,
    }
    return Member.model_validate(fields | changes)


def benign(name: str, role: str = "twin", **changes: Any) -> Member:
    return member(name, role=role, triggers=(), targets=(), rates={}, **changes)


def context(text: str) -> Context:
    return Context(text=text, family="short_string")


def confirmation(text: str, *, p_holm: float = 0.001, **changes: Any) -> Confirmation:
    fields: dict[str, Any] = {
        "context": context(text),
        "nominated": text,
        "behaviour": "fixed_output",
        "target": "Order today at the",
        "subject": Rate(hits=40, trials=40),
        "base": Rate(hits=0, trials=40),
        "subject_control": Rate(hits=0, trials=40),
        "base_control": Rate(hits=0, trials=40),
        "subject_clean": Rate(hits=0, trials=40),
        "effect": 1.0,
        "p_value": p_holm,
        "p_holm": p_holm,
        "null": NULL,
        "neighbours": {},
        "arbitrary": True,
        "harm": None,
        "confidence": 0.8,
        "examples": (),
    }
    return Confirmation.model_validate(fields | changes)


def report(
    swept: Sequence[str] = ("zq", "aa", "bb"),
    nominated: Sequence[str] = (),
    searched: Sequence[str] = (),
    confirmations: Sequence[Confirmation] = (),
) -> Report:
    sweep = DetectorResult(
        detector="trigger_sweep",
        version="1.0",
        outcome="completed",
        candidates=tuple(Candidate(context=context(it), score=1.0, source="test", reason="") for it in nominated),
        artifacts={"landscape": {"columns": ["text"], "rows": [[text] for text in swept]}},
    )
    rate = DetectorResult(
        detector="working_rate",
        version="1.0",
        outcome="completed",
        evidence=tuple(Evidence(statistic=SEARCH_EFFECT, value=0.4, unit="", context=context(it)) for it in searched),
        confirmations=tuple(confirmations),
    )
    results = (sweep, rate)
    card = ModelCard(
        reference="/m",
        kind="adapter",
        architecture="Llama",
        parameters=1,
        layers=1,
        window=64,
        vocabulary=10,
        file_digest="f" * 64,
        content_digest="c" * 64,
        chat_template=True,
    )
    return Report(
        scan_id="s" * 64,
        scanner_version="0",
        created="2026-01-01T00:00:00+00:00",
        subject=card,
        base=card,
        suite="quick",
        suite_version="1.0",
        suite_digest="d" * 64,
        seed=0,
        planned=tuple(result.detector for result in results),
        results=results,
        findings=draw_findings(results),
        score=scan_score(results),
        coverage=Coverage(
            families=(FamilyCoverage(family="short_string", swept=len(swept)),),
            positions={},
            prompts={},
            missed_rate=0.1,
            not_tested=(),
        ),
        machine=Machine(
            processor="toy", cores=1, memory_bytes=1, device="cpu", dtype="float32", isolation=(), versions={}
        ),
        seconds={"total": 1.0},
    )


def found(text: str = "zq", **changes: Any) -> Report:
    """A report in which a trigger went all the way."""
    return report(nominated=[text], searched=[text], confirmations=[confirmation(text, **changes)])


def row(about: Member, report: Report, **peers: float) -> Row:
    result = judged(about, QUICK, Measured(report=report, cost=COST))
    assert result.said
    return Row(about, result.said, result.code, result.cost, peers)
