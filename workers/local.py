"""A whole job on this machine without a queue: what the `touchstone` command starts.

One JSON job comes on standard input, JSON events go to standard output, one a line; `app/core/scanning.py` describes
both. SIGTERM cancels: the model hosts are ended and nothing half-written stays.

    echo '{"task": "scan", "model": ..., "base": ..., "suite": "quick", "out": ...}' | python -m workers.local
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from app.core.files import write_atomically
from app.core.render.html import render_html
from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from detectors.calibration import BankMember
from detectors.contexts.context import NO_CONTEXT
from detectors.engine.files import file_digest, find_directory, list_files, read_manifest
from detectors.errors import InputError, LineageError, ScanCancelled, StoreError, TouchstoneError
from detectors.findings import ExpectedBehaviour
from detectors.methods.calibration import read_member
from detectors.report import Report, decide_report
from detectors.suites import CALIBRATED, SUITES
from workers.calibrating import adapters_in, make_bank
from workers.estimate import estimate
from workers.machine import NATIVE_BFLOAT16, preferred_device, preferred_dtype, processor_flags
from workers.observer import Observer
from workers.progress import Tracker
from workers.replay import answers, load_finding, renderings
from workers.scan import Pair, make_observer, open_pair, scan

Job = dict[str, Any]


class Cancel:
    """A flag that SIGTERM and SIGINT raise."""

    def __init__(self) -> None:
        self._raised = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._raise)

    def _raise(self, *_: object) -> None:
        self._raised = True

    def watch(self) -> None:
        """Raises `ScanCancelled` once the flag is up."""
        if self._raised:
            raise ScanCancelled("the scan was cancelled; what it had observed is kept and not paid again")


def main() -> int:
    """Runs the job on standard input; returns the exit status."""
    cancel = Cancel()
    try:
        job = json.loads(sys.stdin.readline())
        TASKS[job["task"]](job, cancel.watch)
    except TouchstoneError as error:
        status = 2 if isinstance(error, InputError) else 3
        tell("error", code=error.code, message=str(error), exit=status)
        return status
    return 0


def tell(event: str, **fields: Any) -> None:
    """Writes one event."""
    print(json.dumps({"event": event} | fields), flush=True)


def run_scan(job: Job, watch: Callable[[], None]) -> None:
    """Scans and writes `report.json` and `report.html`."""
    started = time.monotonic()
    suite = SUITES[job["suite"]]
    with _observer(job, watch) as (pair, observer):
        seconds = {"gate": round(time.monotonic() - started, 1)}
        tracker = Tracker(
            observer,
            suite,
            on_phase=lambda name: tell("phase", name=name),
            on_reading=lambda reading: tell("progress", **asdict(reading)),
        )
        expected = TypeAdapter(tuple[ExpectedBehaviour, ...]).validate_python(job.get("expected") or ())
        report = scan(
            pair,
            observer,
            suite,
            seed=job.get("seed") or 0,
            expected=expected,
            announce=tracker.announce,
            seconds=seconds,
        )
    out = Path(job["out"])
    html = render_html(report, decide_report(report))
    _write("report", out, {"report.json": report.model_dump_json(indent=1), "report.html": html})
    tell("done", report=str(out / "report.json"), html=str(out / "report.html"))


def run_estimate(job: Job, watch: Callable[[], None]) -> None:
    """Says what a scan would cost."""
    with _observer(job, watch) as (pair, observer):
        tell("phase", name="counting what the suite asks")
        tell("estimate", **estimate(observer, SUITES[job["suite"]], pair.memory_bytes(observer.dtype, Settings())))


def run_replay(job: Job, watch: Callable[[], None]) -> None:
    """Lets both models answer a finding's prompts again."""
    report, finding = load_finding(Path(job["report"]), job["finding"])
    where = {"model": report.subject.reference, "base": report.base.reference, "dtype": report.machine.dtype}
    with _observer({"base_name": Path(report.base.reference).name} | where | job, watch) as (pair, observer):
        _check_same(report, pair)
        if finding.confirmation:
            prompts = [job["prompt"]] if job.get("prompt") else [it.prompt for it in finding.confirmation.examples]
            tell("phase", name="answering")
            examples = answers(observer, finding.confirmation.context, prompts)
        elif finding.proof:
            tell("phase", name="rendering")
            examples = renderings(observer, finding.proof)
        elif finding.shift:
            prompts = [job["prompt"]] if job.get("prompt") else [it.question for it in finding.shift.contrasts]
            tell("phase", name="answering")
            examples = answers(observer, NO_CONTEXT, prompts)
    tell("replayed", examples=[example.model_dump() for example in examples])


def run_digest(job: Job, watch: Callable[[], None]) -> None:
    """Says the digest of a model's files, without opening any of them as a model."""
    tell("digested", file_digest=file_digest(read_manifest(list_files(find_directory(Path(job["model"]))))))


def run_calibrate(job: Job, watch: Callable[[], None]) -> None:
    """Takes the readings of a bank from every adapter below a directory and writes the bank."""
    members: list[BankMember] = []
    left_out: dict[str, str] = {}
    for adapter in adapters_in(Path(job["adapters"])):
        try:
            with _observer(job | {"model": adapter}, watch) as (pair, observer):
                tell("phase", name=f"reading {adapter.name}")
                members.append(read_member(observer, pair.subject.card.content_digest, CALIBRATED))
                base, dtype = pair.base.card.content_digest, observer.dtype
        except InputError as error:
            left_out[adapter.name] = f"{error.code}: {error}"
    if not members:
        raise InputError(f"no adapter below {job['adapters']!r} can be read: {next(iter(left_out.values()))}")
    kept = Path(job["out"]) if job.get("out") else Settings().banks_dir / f"{base[:16]}-{dtype}.json"
    _write("bank", kept.parent, {kept.name: make_bank(base, dtype, members, left_out).model_dump_json(indent=1)})
    tell("calibrated", bank=str(kept), members=len(members), left_out=left_out)


def run_doctor(job: Job, watch: Callable[[], None]) -> None:
    """Says what torch makes of this machine."""
    import torch

    side = 1024
    left = torch.randn(side, side)
    started = time.perf_counter()
    for _ in range(8):
        left @ left
    spent = time.perf_counter() - started
    tell(
        "doctor",
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        cuda=torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no",
        dtype=preferred_dtype(preferred_device()),
        native_bfloat16=", ".join(sorted(processor_flags() & set(NATIVE_BFLOAT16))) or "no",
        float32_gflops=round(8 * 2 * side**3 / spent / 1e9),
    )


TASKS: dict[str, Callable[[Job, Callable[[], None]], None]] = {
    "scan": run_scan,
    "estimate": run_estimate,
    "replay": run_replay,
    "digest": run_digest,
    "calibrate": run_calibrate,
    "doctor": run_doctor,
}


@contextmanager
def _observer(job: Job, watch: Callable[[], None]) -> Iterator[tuple[Pair, Observer]]:
    """The gated pair of a job and an observer of it; its hosts do not outlive this."""
    settings = Settings()
    device = preferred_device() if job.get("device") in (None, "auto") else job["device"]
    dtype = preferred_dtype(device) if job.get("dtype") in (None, "auto") else job["dtype"]
    tell("phase", name="checking files")
    pair = open_pair(Path(job["model"]), Path(job["base"]), job.get("base_name"))
    with SqliteStore(settings.store_path, settings.store_cap_bytes) as store:
        observer = make_observer(
            pair,
            store,
            dtype=dtype,
            device=device,
            settings=settings,
            watch=watch,
            budget_seconds=job.get("budget_seconds"),
        )
        try:
            yield pair, observer
        finally:
            observer.end()


def _check_same(report: Report, pair: Pair) -> None:
    for role, then, now in (("model", report.subject, pair.subject.card), ("base", report.base, pair.base.card)):
        if then.content_digest != now.content_digest:
            raise LineageError(
                f"the {role} at {then.reference!r} is not the one that was scanned: its content digest is "
                f"{now.content_digest}, the report has {then.content_digest}; restore the scanned files"
            )


def _write(what: str, out: Path, documents: dict[str, str]) -> None:
    """Writes documents by name into `out`, made when missing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in documents.items():
            write_atomically(out / name, text)
    except OSError as error:
        raise StoreError(
            f"the {what} cannot be written to {str(out)!r}: {error.strerror}; name another `--out`"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
