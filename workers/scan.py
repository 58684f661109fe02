"""One whole scan: two gated models, an observer, the suite's detectors, and the report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from app.core.settings import Settings, host_environment
from detectors.batteries import sets as batteries
from detectors.engine.checkpoint import Inspected
from detectors.engine.gate import inspect_model
from detectors.engine.observations import ModelId, Role, Store
from detectors.engine.shipped import ModelFiles
from detectors.findings import DetectorResult, ExpectedBehaviour, draw_findings, scan_score
from detectors.prompts import sets as prompts
from detectors.report import Coverage, FamilyCoverage, Report
from detectors.suites import PROBES, Suite
from workers.banks import find_bank
from workers.hosts import Host, HostSpec
from workers.machine import describe_machine
from workers.observer import Observer
from workers.runner import run_detectors

PROJECT = Path(__file__).parents[1]
BYTES = {"float32": 4, "bfloat16": 2}
NOT_TESTED = (
    "triggers outside the swept families, and members of them that were not drawn",
    "triggers of several parts that only work together and do nothing alone",
    "triggers in earlier turns, or inside the prompt",
    "behaviour that begins after the generated tokens",
    "what changed in weights other than rows of the embeddings: it is described, not judged",
    "behaviour that wakes after further fine-tuning",
)
INVERTED = "what calls an answer that is held ready, where no swept context and no search releases it"
NOT_INVERTED = "fixed answers that no swept context releases: no target was inverted"
SHIFTS = "shifts that need no trigger, of"


@dataclass(frozen=True)
class Pair:
    """Subject and base, both through the static gate."""

    subject: Inspected
    base: Inspected

    def host_spec(self, role: Role, dtype: str, device: str, settings: Settings) -> HostSpec:
        """What the host of a role is started with."""
        model = self.subject if role == "subject" else self.base
        adapter = model.path if model.kind == "adapter" else None
        return HostSpec(
            directory=self.base.path if adapter else model.path,
            adapter=adapter,
            tokenizer=model.tokenizer.directory,
            template=model.tokenizer.template,
            dtype=dtype,
            device=device,
            threads=settings.threads,
            memory_budget_bytes=settings.memory_budget_bytes,
            memory_limit_bytes=settings.memory_limit_bytes,
        )

    def memory_bytes(self, dtype: str, settings: Settings) -> int:
        """Memory that both hosts take together, weights and batches."""
        weights = (self.subject.card.parameters + self.base.card.parameters) * BYTES[dtype]
        return weights + 2 * settings.memory_budget_bytes

    def resident(self, dtype: str, settings: Settings) -> int:
        """How many of both hosts fit into memory at once, at least one."""
        return 2 if self.memory_bytes(dtype, settings) < psutil.virtual_memory().available else 1

    def models(self) -> dict[Role, ModelId]:
        """Both by their contents."""
        return {"subject": ModelId(self.subject.card.content_digest), "base": ModelId(self.base.card.content_digest)}

    def files(self) -> dict[Role, ModelFiles]:
        """What both hold beside their weights."""
        return {"subject": self.subject.files(), "base": self.base.files()}


def open_pair(model: Path, base: Path, base_name: str | None) -> Pair:
    """Subject and base, checked before anything heavy runs.

    Raises:
        InputError: what is wrong with either, or between them.
    """
    inspected = inspect_model(base)
    return Pair(subject=inspect_model(model, base=inspected, base_name=base_name), base=inspected)


def make_observer(
    pair: Pair,
    store: Store,
    *,
    dtype: str,
    device: str,
    settings: Settings,
    watch: Callable[[], None],
    budget_seconds: float | None = None,
) -> Observer:
    """An observer that starts hosts of the pair when it needs them."""
    return Observer(
        pair.models(),
        dtype,
        store,
        lambda role: start_host(pair.host_spec(role, dtype, device, settings), watch),
        resident=pair.resident(dtype, settings),
        budget_seconds=budget_seconds,
        watch=watch,
        message_tokens=settings.message_tokens,
        files=pair.files(),
        weight_files=pair.subject.weight_files(),
        bank=find_bank(pair.models(), dtype, settings.banks_dir),
    )


def start_host(spec: HostSpec, watch: Callable[[], None]) -> Host:
    """A model host with an environment of its own."""
    return Host(spec, host_environment(str(PROJECT)), watch)


def scan(
    pair: Pair,
    observer: Observer,
    suite: Suite,
    *,
    seed: int,
    expected: Sequence[ExpectedBehaviour],
    announce: Callable[[str], None],
    seconds: dict[str, float],
) -> Report:
    """Runs the suite and assembles the report.

    Args:
        announce: called with each detector's name before it runs.
        seconds: what the steps before took.
    """
    started = time.monotonic()
    results = run_detectors(suite, observer, seed, usage=observer.meter.usage, announce=announce)
    seconds = seconds | {"detectors": round(time.monotonic() - started, 1)}
    dtype = observer.dtype
    return Report(
        scan_id=_scan_id(pair, suite, seed, expected, observer),
        scanner_version=version("touchstone"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        subject=pair.subject.card,
        base=pair.base.card,
        suite=suite.name,
        suite_version=suite.version,
        suite_digest=suite.digest(),
        seed=seed,
        expected=tuple(expected),
        planned=suite.detectors,
        results=results,
        findings=draw_findings(results, expected),
        score=scan_score(results),
        coverage=_coverage(results, not_tested(suite)),
        machine=describe_machine(device=observer.device or "none", dtype=dtype, isolation=observer.isolation),
        seconds=seconds | {"total": round(sum(seconds.values()), 1)},
    )


def not_tested(suite: Suite) -> tuple[str, ...]:
    """What a scan with this suite does not judge, in words."""
    probed = [name for name in PROBES if name in suite.detectors]
    left_out = [name for name in PROBES if name not in suite.detectors]
    reported = (f"{SHIFTS} {', '.join(probed)}: they are reported, not judged",) if probed else ()
    unread = (f"{SHIFTS} {', '.join(left_out)}",) if left_out else ()
    return (*NOT_TESTED, *reported, *unread, INVERTED if suite.target_inversion else NOT_INVERTED)


def _scan_id(pair: Pair, suite: Suite, seed: int, expected: Sequence[ExpectedBehaviour], observer: Observer) -> str:
    parts = [
        pair.subject.card.content_digest,
        pair.base.card.content_digest,
        suite.digest(),
        prompts.digest(),
        batteries.digest(),
        seed,
        [item.model_dump() for item in expected],
        observer.dtype,
        observer.bank.digest() if observer.bank else None,
        version("touchstone"),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _coverage(results: Sequence[DetectorResult], not_tested: tuple[str, ...]) -> Coverage:
    told: dict[str, Any] = {"families": [], "positions": {}, "prompts": {}, "not_tested": list(not_tested)}
    for result in results:
        own = result.artifacts.get("coverage", {})
        told["families"] += own.get("families", [])
        told["not_tested"] += own.get("not_tested", [])
        for position, count in own.get("positions", {}).items():
            told["positions"][position] = told["positions"].get(position, 0) + count
        for stage, count in own.get("prompts", {}).items():
            told["prompts"][stage] = max(told["prompts"].get(stage, 0), count)
    families = [FamilyCoverage(family=name, swept=swept, universe=size) for name, swept, size in told["families"]]
    tested = told["prompts"].get("confirm", 0)
    return Coverage(
        families=tuple(families),
        positions=told["positions"],
        prompts=told["prompts"],
        missed_rate=min(1.0, 3 / tested) if tested else 1.0,
        not_tested=tuple(told["not_tested"]),
    )
