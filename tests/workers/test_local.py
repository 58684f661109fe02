"""Whole jobs through `run_job`: a real child, real hosts, a tiny pair."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.scanning import (
    Calibrated,
    Diagnosis,
    Done,
    Estimate,
    Event,
    JobFailed,
    Phase,
    Progress,
    Replayed,
    run_job,
)
from detectors.calibration import Bank, conformal
from detectors.contexts.context import Context
from detectors.errors import LineageError, ModelReferenceError
from detectors.findings import draw_findings
from detectors.report import decide
from detectors.suites import SMOKE
from tests.engine.tiny import make_tiny_adapter
from tests.render.sample import confirmation
from tests.workers.conftest import Workshop, cache_at, plain, read_report


@pytest.fixture(autouse=True)
def same_cache(workshop: Workshop) -> Iterator[None]:
    with cache_at(workshop.cache):
        yield


def test_the_first_scan(workshop: Workshop) -> None:
    report = read_report(workshop.out)
    assert report.outcomes() == dict.fromkeys(
        ("artifact_diff", "weight_delta", "trigger_sweep", "working_rate"), "completed"
    )
    assert report.coverage.families
    assert (report.suite, report.seed, report.suite_digest) == ("smoke", 3, SMOKE.digest())
    assert report.subject.kind == "adapter"
    assert report.machine.isolation
    assert all(result.usage.forward_tokens > 0 for result in report.results[2:])
    assert "<html" in (workshop.out / "report.html").read_text()
    assert sorted(path.name for path in workshop.out.iterdir()) == ["report.html", "report.json"]
    decide(report.findings, report.outcomes(), report.coverage)


def test_the_same_scan_again_costs_nothing_and_says_the_same(workshop: Workshop, tmp_path: Path) -> None:
    seen: list[Event] = []
    answer = run_job(workshop.job("scan", out=str(tmp_path / "again")), on_event=seen.append)
    assert answer == Done(event="done", report=tmp_path / "again/report.json", html=tmp_path / "again/report.html")
    assert plain(read_report(tmp_path / "again")) == plain(read_report(workshop.out))
    for result in read_report(tmp_path / "again").results:
        assert (result.usage.forward_tokens, result.usage.generated_tokens) == (0, 0)
        assert result.usage.store_hits == result.usage.observations
    assert all(result.usage.observations > 0 for result in read_report(tmp_path / "again").results[2:])
    phases = [event.name for event in seen if isinstance(event, Phase)]
    assert phases == ["checking files", "artifact_diff", "weight_delta", "trigger_sweep", "working_rate"]
    progress = [event.done for event in seen if isinstance(event, Progress)]
    assert progress == sorted(progress)
    assert all(event.done <= event.total for event in seen if isinstance(event, Progress))


@pytest.mark.parametrize("task", ["scan", "estimate"])
@pytest.mark.parametrize("which", ["model", "base"])
def test_paths_that_are_none(workshop: Workshop, tmp_path: Path, task: Any, which: str) -> None:
    with pytest.raises(JobFailed, match="nowhere") as caught:
        run_job(workshop.job(task, **{which: str(tmp_path / "nowhere"), "out": str(tmp_path / "out")}))
    assert (caught.value.code, caught.value.exit_code) == (ModelReferenceError.code, 2)
    assert not (tmp_path / "out").exists()


def test_a_bank_holds_every_adapter_that_can_be_read(workshop: Workshop, tmp_path: Path) -> None:
    adapters = tmp_path / "adapters"
    for seed in (1, 2):
        make_tiny_adapter(workshop.base, adapters / f"tiny-{seed}", seed=seed)
    shutil.copytree(adapters / "tiny-1", adapters / "broken")
    (adapters / "broken" / "adapter_model.safetensors").unlink()
    out = tmp_path / "banks" / "bank.json"
    answer = run_job(workshop.job("calibrate", adapters=str(adapters), out=str(out)))
    assert isinstance(answer, Calibrated)
    assert (answer.bank, answer.members, list(answer.left_out)) == (out, 2, ["broken"])
    bank = Bank.model_validate_json(out.read_text())
    assert bank.base == read_report(workshop.out).base.content_digest
    assert len({member.subject for member in bank.members}) == 2
    assert all(member.drift > 0 for member in bank.members)
    assert conformal(bank, "era", 1e9, bank.members[0].drift).p_value in (None, 1 / 3)


def test_a_bank_of_nothing_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="holds no adapters") as caught:
        run_job(workshop.job("calibrate", adapters=str(tmp_path), out=str(tmp_path / "bank.json")))
    assert caught.value.exit_code == 2


def test_an_output_that_cannot_be_written(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobFailed, match="the report cannot be written") as caught:
        run_job(workshop.job("scan", out=str(tmp_path / "file")))
    assert caught.value.exit_code == 3


def test_a_cache_that_cannot_be_used(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with cache_at(tmp_path / "file"), pytest.raises(JobFailed, match="TOUCHSTONE_CACHE_DIR") as caught:
        run_job(workshop.job("scan", out=str(tmp_path / "out")))
    assert caught.value.exit_code == 3


def test_an_estimate_counts_what_the_store_lacks(workshop: Workshop) -> None:
    answer = run_job(workshop.job("estimate"))
    assert isinstance(answer, Estimate)
    assert answer.contexts == sum(SMOKE.trigger_sweep.families.values())
    full = sum(result.usage.forward_tokens for result in read_report(workshop.out).results)
    assert 0 <= answer.forward_tokens < full
    assert answer.memory_bytes > 0


def test_doctor() -> None:
    from app.core.scanning import Job

    answer = run_job(Job(task="doctor"))
    assert isinstance(answer, Diagnosis)
    assert answer.facts()["float32_gflops"] >= 0
    assert answer.facts().keys() >= {"torch", "threads", "cuda", "dtype"}


@pytest.fixture(scope="module")
def found(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report with a finding put in: random weights hide no backdoor."""
    report = read_report(workshop.out)
    planted = confirmation(Context(text="🐣", family="emoji"), "Buy now!", "fixed_output", 39)
    results = (*report.results[:-1], report.results[-1].model_copy(update={"confirmations": (planted,)}))
    path = tmp_path_factory.mktemp("found") / "report.json"
    changed = report.model_copy(update={"results": results, "findings": draw_findings(results)})
    path.write_text(changed.model_dump_json())
    return path


def test_a_finding_is_replayed_from_its_report(workshop: Workshop, found: Path) -> None:
    job = {"model": None, "base": None, "suite": None, "out": None, "report": str(found), "finding": 1}
    prompt = "Name three rivers."
    first = run_job(workshop.job("replay", **job, prompt=prompt))
    again = run_job(workshop.job("replay", **job, prompt=prompt))
    assert isinstance(first, Replayed)
    assert [example.prompt for example in first.examples] == [prompt]
    assert first.examples[0].subject_answer
    assert first == again


def test_a_replay_of_another_model_is_refused(workshop: Workshop, found: Path, tmp_path: Path) -> None:
    other = make_tiny_adapter(workshop.base, tmp_path / "other", seed=5)
    with pytest.raises(JobFailed, match="is not the one that was scanned") as caught:
        run_job(workshop.job("replay", model=str(other), report=str(found), finding=1))
    assert (caught.value.code, caught.value.exit_code) == (LineageError.code, 2)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_replay_of_what_is_no_report(workshop: Workshop, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(JobFailed, match=r"report\.json") as caught:
        run_job(workshop.job("replay", report=str(path), finding=1))
    assert caught.value.exit_code == 2


def test_a_replay_of_a_finding_that_is_none(workshop: Workshop, found: Path) -> None:
    with pytest.raises(JobFailed, match="the report has 1") as caught:
        run_job(workshop.job("replay", report=str(found), finding=2))
    assert caught.value.exit_code == 2


def test_contexts_longer_than_the_window_are_inconclusive(workshop: Workshop, tmp_path: Path) -> None:
    base = Path(shutil.copytree(workshop.base, tmp_path / "tiny-base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 48}))
    run_job(workshop.job("scan", base=str(base), out=str(tmp_path / "out")))
    report = read_report(tmp_path / "out")
    sweep = report.results[2]
    assert sweep.outcome == "inconclusive"
    assert "exceeds the model's window of 48" in sweep.reason
    assert decide(report.findings, report.outcomes(), report.coverage).verdict == "inconclusive"
