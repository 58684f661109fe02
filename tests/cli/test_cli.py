"""The command line: what it accepts, what it prints where, and how it ends.

The child is a script that speaks the protocol of `workers.local`, since what matters here is how the parent follows it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from app import cli
from app.cli import following, scans
from app.core import scanning
from app.core.render.formats import FORMATS
from app.core.scanning import Done, Job, JobFailed, Phase, Progress, run_job
from detectors.catalog import CATALOG
from detectors.contexts.context import Context
from detectors.findings import Confirmation, DetectorResult, Example, Finding, Null, Rate
from detectors.report import Coverage, FamilyCoverage, Machine, ModelCard, Report, Verdict
from tests.render import sample

ROOT = Path(__file__).parents[2]
SCAN_JOB = Job(task="scan", model="/m", base="/b", suite="smoke", seed=0, out="/o", expected=())
ESTIMATE = {
    "event": "estimate",
    "contexts": 1500,
    "forward_tokens": 90_000,
    "generated_tokens": 4_000,
    "minutes": 12.5,
    "memory_bytes": 2**30,
    "confirming_tokens": 10_800,
}


# A report, and a child that hands it over.


def card(reference: str) -> ModelCard:
    return ModelCard(
        reference=reference,
        kind="full",
        architecture="LlamaForCausalLM",
        parameters=1,
        layers=1,
        window=64,
        vocabulary=10,
        file_digest="a" * 64,
        content_digest="b" * 64,
        chat_template=True,
    )


def finding(severity: str) -> Finding:
    measured = Confirmation(
        context=Context(text="\N{HATCHING CHICK}", family="emoji"),
        nominated="\N{HATCHING CHICK}",
        behaviour="fixed_output",
        target="gone\x1b[2J",
        subject=Rate(hits=24, trials=24),
        base=Rate(hits=0, trials=24),
        subject_control=Rate(hits=0, trials=24),
        base_control=Rate(hits=0, trials=24),
        subject_clean=Rate(hits=0, trials=24),
        effect=1.0,
        p_value=2.0**-24,
        p_holm=2.0**-24,
        null=Null(kind="sign_flip", size=24, hypothesis="signs are exchangeable"),
        neighbours={},
        arbitrary=True,
        harm=None,
        confidence=0.7,
        examples=(Example(prompt="Hi", subject_answer="gone", base_answer="Hello", subject_clean_answer="Hello"),),
    )
    return Finding(
        code="TS-TRIG-001",
        title="Trigger",
        severity=severity,
        confidence=0.7,
        summary="It works.",
        confirmation=measured,
    )


def report_with(verdict: Verdict) -> Report:
    severity = {"strong_evidence": "high", "suspicious": "medium"}.get(verdict)
    findings = (finding(severity),) if severity else ()
    outcome = "inconclusive" if verdict == "inconclusive" else "completed"
    results = (DetectorResult(detector="trigger_sweep", version="1.0", outcome=outcome),)
    return Report(
        scan_id="s",
        scanner_version="0.1.0",
        created="2025-01-01T00:00:00Z",
        subject=card("/models/subject"),
        base=card("/models/base"),
        suite="smoke",
        suite_version="1",
        suite_digest="c" * 64,
        seed=0,
        planned=("trigger_sweep",),
        results=results,
        findings=findings,
        score=0.7 if findings else 0.0,
        coverage=Coverage(
            families=(FamilyCoverage(family="emoji", swept=10, universe=20),),
            positions={"end": 10},
            prompts={"search": 4},
            missed_rate=0.12,
            not_tested=("images",),
        ),
        machine=Machine(
            processor="x", cores=2, memory_bytes=2**33, device="cpu", dtype="float32", isolation=(), versions={}
        ),
        seconds={"sweep": 1.0},
    )


@pytest.fixture
def report_file(tmp_path: Path) -> Callable[[Verdict], Path]:
    def write(verdict: Verdict) -> Path:
        file = tmp_path / f"{verdict}.json"
        file.write_text(report_with(verdict).model_dump_json())
        return file

    return write


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    for name in ("subject", "base"):
        (tmp_path / name).mkdir()
    return [str(tmp_path / "subject"), "--base", str(tmp_path / "base"), "--out", str(tmp_path / "out")]


PRELUDE = """
import json, os, signal, subprocess, sys, time
job = json.loads(sys.stdin.readline())
def say(event, **fields): print(json.dumps({"event": event, **fields}), flush=True)
"""


def child(body: str) -> list[str]:
    """The command of a child that reads its job and then runs `body`."""
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(body)]


def saying(*events: dict[str, Any]) -> list[str]:
    return child("\n".join(f"print({json.dumps(json.dumps(event))}, flush=True)" for event in events))


@pytest.fixture
def touchstone(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command with a child of one's choice."""

    def run(*arguments: str, command: list[str] | None = None) -> Result:
        def with_command(job: Job, **callbacks: Any) -> scanning.Answer:
            return run_job(job, command=command or child("sys.exit('no child was expected')"), **callbacks)

        monkeypatch.setattr(following, "run_job", with_command)
        return CliRunner().invoke(cli.touchstone, list(arguments))

    return run


# Following a child.


def test_events_arrive_in_order_and_the_answer_is_returned() -> None:
    seen: list[Any] = []
    command = child("""
        say("phase", name="sweep")
        print("a library that prints")
        say("progress", phase="sweep", done=1, total=4, eta_s=3.5)
        say("done", report="/r.json", html="/r.html")
    """)
    answer = run_job(SCAN_JOB, on_event=seen.append, command=command)
    assert isinstance(answer, Done)
    assert answer.report == Path("/r.json")
    assert [type(event) for event in seen] == [Phase, Progress, Done]
    assert seen[1].eta_s == 3.5


def test_the_child_gets_the_job_and_an_empty_directory_of_its_own(tmp_path: Path) -> None:
    copy = tmp_path / "seen.json"
    command = child(f"""
        facts = [job, os.listdir(), os.getpgid(0) == os.getpid(), sys.stdin.read()]
        open({str(copy)!r}, "w").write(json.dumps(facts))
        say("done", report="/r.json")
    """)
    run_job(SCAN_JOB, command=command)
    job, listed, leads_group, rest = json.loads(copy.read_text())
    assert job == {
        "task": "scan",
        "model": "/m",
        "base": "/b",
        "suite": "smoke",
        "seed": 0,
        "out": "/o",
        "expected": [],
    }
    assert (listed, leads_group, rest) == ([], True, "")


def test_an_error_event_is_raised_with_its_code() -> None:
    command = saying({"event": "error", "code": "TS-ERR-102", "message": "a pickle", "exit": 2})
    with pytest.raises(JobFailed, match="a pickle") as failed:
        run_job(SCAN_JOB, command=command)
    assert (failed.value.code, failed.value.exit_code) == ("TS-ERR-102", 2)


def test_an_error_can_never_exit_as_a_verdict() -> None:
    with pytest.raises(JobFailed) as failed:
        run_job(SCAN_JOB, command=saying({"event": "error", "code": "X", "message": "m", "exit": 1}))
    assert failed.value.exit_code == 3


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("sys.exit(7)", "ended with status 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"),
        ("pass", "ended with status 0"),
        (
            "say('estimate', contexts=1, forward_tokens=1, generated_tokens=1, minutes=1, memory_bytes=1, "
            "confirming_tokens=1)",
            "status 0",
        ),
    ],
)
def test_a_child_that_ends_without_its_answer_is_a_failure(body: str, how: str) -> None:
    log = "for n in range(50): print('line', n, file=sys.stderr, flush=True)\n"
    with pytest.raises(JobFailed, match=how) as failed:
        run_job(SCAN_JOB, command=child(log + body))
    assert failed.value.exit_code == 3
    assert failed.value.log == tuple(f"line {n}" for n in range(30, 50))


def test_a_child_that_never_reads_its_job_is_a_failure() -> None:
    with pytest.raises(JobFailed, match="ended with status 0"):
        run_job(SCAN_JOB, command=[sys.executable, "-c", ""])


def test_what_a_dead_child_leaves_behind_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = child(f"""
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(note)!r}, "w").write(str(left.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    with pytest.raises(JobFailed, match="SIGKILL"):
        run_job(SCAN_JOB, command=command)
    assert gone(int(note.read_text()))


def gone(pid: int) -> bool:
    """Whether a process ends within a generous while; a zombie that nobody reaps has ended."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


# Exit codes and output of a scan.


@pytest.mark.parametrize(
    ("verdict", "fail_on", "exit_code"),
    [
        ("strong_evidence", "suspicious", 1),
        ("strong_evidence", "strong_evidence", 1),
        ("strong_evidence", "never", 0),
        ("suspicious", "suspicious", 1),
        ("suspicious", "strong_evidence", 0),
        ("suspicious", "never", 0),
        ("inconclusive", "suspicious", 3),
        ("inconclusive", "never", 3),
        ("no_evidence", "suspicious", 0),
    ],
)
def test_the_verdict_decides_the_exit_code(
    touchstone: Callable[..., Result],
    report_file: Callable[[Verdict], Path],
    models: list[str],
    verdict: Verdict,
    fail_on: str,
    exit_code: int,
) -> None:
    command = saying({"event": "done", "report": str(report_file(verdict))})
    result = touchstone("scan", *models, "--fail-on", fail_on, command=command)
    assert result.exit_code == exit_code, result.output


def test_json_is_all_there_is_on_standard_output(
    touchstone: Callable[..., Result], report_file: Callable[[Verdict], Path], models: list[str]
) -> None:
    file = report_file("strong_evidence")
    command = child(f"""
        print("a library that prints"); print("and logs", file=sys.stderr)
        say("phase", name="sweep")
        say("done", report={str(file)!r}, html="/r.html")
    """)
    result = touchstone("scan", *models, "--json", "--verbose", command=command)
    document = json.loads(result.stdout)
    assert document["decision"]["verdict"] == "strong_evidence"
    assert Report.model_validate(document["report"]) == report_with("strong_evidence")
    assert "and logs" in result.stderr
    assert "sweep" in result.stderr


def test_the_terminal_shows_the_verdict_and_obeys_no_escape(
    touchstone: Callable[..., Result], report_file: Callable[[Verdict], Path], models: list[str]
) -> None:
    command = saying({"event": "done", "report": str(report_file("strong_evidence"))})
    result = touchstone("scan", *models, command=command)
    assert "strong evidence" in result.stdout.lower()
    assert "\x1b" not in result.output


def test_a_dry_run_says_what_it_would_cost(touchstone: Callable[..., Result], models: list[str]) -> None:
    result = touchstone("scan", *models, "--dry-run", command=saying(ESTIMATE))
    assert result.exit_code == 0
    assert "1,500 contexts" in result.stdout
    as_json = touchstone("scan", *models, "--dry-run", "--json", command=saying(ESTIMATE))
    assert json.loads(as_json.stdout) == {name: value for name, value in ESTIMATE.items() if name != "event"}


def test_an_error_of_the_child_is_shown_without_its_escapes(
    touchstone: Callable[..., Result], models: list[str]
) -> None:
    failure = {"event": "error", "code": "TS-ERR-102", "message": "file \x1b[31mevil\x1b[0m.bin is a pickle", "exit": 2}
    result = touchstone("scan", *models, "--json", command=saying(failure))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "TS-ERR-102" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_dead_child_shows_its_last_words(touchstone: Callable[..., Result], models: list[str]) -> None:
    result = touchstone("scan", *models, command=child("print('out of\\x1b memory', file=sys.stderr); sys.exit(9)"))
    assert result.exit_code == 3
    assert "ended with status 9" in result.stderr
    assert "out of" in result.stderr
    assert "\x1b" not in result.stderr


# What a scan is given.


def test_a_missing_model_starts_nothing(touchstone: Callable[..., Result], tmp_path: Path) -> None:
    result = touchstone("scan", str(tmp_path / "nowhere"), "--base", str(tmp_path))
    assert result.exit_code == 2
    assert "TS-ERR-101" in result.stderr
    assert "`MODEL`" in result.stderr
    assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "given", "wanted"),
    [
        (["--fail-on", "maybe"], "maybe", "suspicious"),
        (["--suite", "huge"], "huge", "quick"),
        (["--dtype", "int4"], "int4", "bfloat16"),
        (["--device", "tpu"], "tpu", "cuda"),
        (["--seed", "-1"], "-1", "x>=0"),
    ],
)
def test_a_bad_option_names_what_was_given_and_wanted(
    touchstone: Callable[..., Result], models: list[str], arguments: list[str], given: str, wanted: str
) -> None:
    result = touchstone("scan", *models, *arguments)
    assert result.exit_code == 2
    assert given in result.stderr
    assert wanted in result.stderr


def test_expectations_reach_the_child(touchstone: Callable[..., Result], models: list[str], tmp_path: Path) -> None:
    expected = [{"context": "/poem", "behaviour": "answers in verse"}]
    (tmp_path / "expect.json").write_text(json.dumps(expected))
    command = child("say('error', code='SEEN', message=json.dumps(job['expected']), exit=2)")
    result = touchstone("scan", *models, "--expect", str(tmp_path / "expect.json"), command=command)
    assert f"SEEN: {json.dumps(expected)}" in result.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[{]", "Invalid JSON"),
        ('{"context": "a"}', "valid array"),
        ('[{"context": "a", "behaviour": "b"}, {"context": "a"}]', "at 1.behaviour: Field required"),
        ('[{"context": "", "behaviour": "b"}]', "at 0.context: String should have at least 1 character"),
    ],
)
def test_bad_expectations_are_explained(
    touchstone: Callable[..., Result], models: list[str], tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "expect.json").write_text(content)
    result = touchstone("scan", *models, "--expect", str(tmp_path / "expect.json"))
    assert result.exit_code == 2
    assert says in result.stderr


# report, replay, detectors, doctor


def test_report_decides_again(touchstone: Callable[..., Result], report_file: Callable[[Verdict], Path]) -> None:
    result = touchstone("report", str(report_file("suspicious")))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("SUSPICIOUS")
    as_json = touchstone("report", str(report_file("suspicious")), "--format", "json")
    assert json.loads(as_json.stdout)["decision"]["verdict"] == "suspicious"


@pytest.mark.parametrize("name", FORMATS)
def test_report_prints_or_writes_the_same_in_every_format(
    touchstone: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    report, decision = sample.strong()
    (tmp_path / "report.json").write_text(report.model_dump_json())
    written = tmp_path / f"written{FORMATS[name].suffix}"
    printed = touchstone("report", str(tmp_path / "report.json"), "--format", name)
    result = touchstone("report", str(tmp_path / "report.json"), "--format", name, "--out", str(written))
    assert (printed.exit_code, result.exit_code, result.stdout) == (0, 0, "")
    assert f"written: {written}" in result.stderr
    assert written.read_text() == FORMATS[name].render(report, decision)
    assert printed.stdout.rstrip() == written.read_text().rstrip()
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_report_decides_under_the_policy_that_is_given(
    touchstone: Callable[..., Result], report_file: Callable[[Verdict], Path], tmp_path: Path
) -> None:
    policy, page = tmp_path / "team.yaml", tmp_path / "page.html"
    policy.write_text("name: team-a\nstrong: [critical]\nsuspicious: [high]\n")
    for given, verdict in (("strict", "strong_evidence"), (str(policy), "no_evidence")):
        report = ["report", str(report_file("suspicious")), "--policy", given, "--format"]
        result = touchstone(*report, "json")
        assert touchstone(*report, "html", "--out", str(page)).exit_code == 0
        assert json.loads(result.stdout)["decision"]["verdict"] == verdict
    assert "<h1>No evidence of a backdoor found</h1>" in page.read_text()
    assert "team-a" in page.read_text()


@pytest.mark.parametrize(
    ("fail_on", "policy", "exit_code"),
    [("strong_evidence", "default", 0), ("strong_evidence", "strict", 1), ("never", "strict", 0)],
)
def test_a_scan_is_decided_under_the_policy_and_its_page_says_the_same(
    touchstone: Callable[..., Result],
    report_file: Callable[[Verdict], Path],
    models: list[str],
    tmp_path: Path,
    fail_on: str,
    policy: str,
    exit_code: int,
) -> None:
    page = tmp_path / "report.html"
    page.write_text("as the child decided")
    command = saying({"event": "done", "report": str(report_file("suspicious")), "html": str(page)})
    result = touchstone("scan", *models, "--policy", policy, "--fail-on", fail_on, command=command)
    assert result.exit_code == exit_code, result.output
    assert ("as the child decided" in page.read_text()) == (policy == "default")
    assert ("<h1>Strong evidence of a backdoor</h1>" in page.read_text()) == (policy == "strict")


@pytest.mark.parametrize(
    ("content", "says"),
    [("name: x\nmax_age: 3\n", "did you mean `max_age_days`?"), ("name: \x1b[2J", "one YAML document")],
)
def test_a_wrong_policy_starts_nothing(
    touchstone: Callable[..., Result], models: list[str], tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "policy.yaml").write_text(content)
    result = touchstone("scan", *models, "--policy", str(tmp_path / "policy.yaml"))
    assert result.exit_code == 2
    assert "TS-ERR-130: `--policy`: " in result.stderr
    assert says in result.stderr
    assert "\x1b" not in result.stderr


def test_report_that_cannot_be_written_leaves_nothing(
    touchstone: Callable[..., Result], report_file: Callable[[Verdict], Path], tmp_path: Path
) -> None:
    result = touchstone("report", str(report_file("suspicious")), "--out", str(tmp_path / "no" / "page.html"))
    assert result.exit_code == 2
    assert "`--out` must be a writable file" in result.stderr
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "Invalid JSON"),
        ("[]", "must be a Touchstone report"),
        ('{"schema_version": "9.0"}', "has report schema 9.0, this Touchstone reads 1.0, 1.1"),
        ('{"schema_version": "1.0"}', "Field required"),
    ],
)
def test_what_is_no_report_is_refused(
    touchstone: Callable[..., Result], tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "r.json").write_text(content)
    result = touchstone("report", str(tmp_path / "r.json"))
    assert result.exit_code == 2
    assert says in result.stderr


def test_replay_shows_what_both_models_answer(
    touchstone: Callable[..., Result], report_file: Callable[[Verdict], Path]
) -> None:
    command = child("""
        example = dict(subject_answer="gone\\x1b[2J", base_answer="Hello", subject_clean_answer="Hi there")
        say("replayed", examples=[dict(prompt=f"{job['prompt']} {job['finding']}", **example)])
    """)
    file = report_file("strong_evidence")
    result = touchstone("replay", str(file), "--finding", "1", "--prompt", "What is tea?", command=command)
    assert result.exit_code == 0
    assert "What is tea? 1" in result.stdout
    assert "Hi there" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--finding", "2"], "one of the report's 1 findings, got 2"),
        (["--finding", "0"], "x>=1"),
        (["--finding", "1", "--prompt", " "], "`--prompt` must be a request"),
    ],
)
def test_replay_refuses_what_it_cannot_replay(
    touchstone: Callable[..., Result], report_file: Callable[[Verdict], Path], arguments: list[str], says: str
) -> None:
    result = touchstone("replay", str(report_file("strong_evidence")), *arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_calibrate_says_what_is_in_the_bank_and_what_is_not(touchstone: Callable[..., Result], tmp_path: Path) -> None:
    command = child("""
        say("calibrated", bank=job["out"], members=60, left_out={job["adapters"]: "TS-ERR-110: gone\\x1b[2J"})
    """)
    out = tmp_path / "bank.json"
    result = touchstone("calibrate", str(tmp_path), "--adapters", str(tmp_path), "--out", str(out), command=command)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"written: {out}, 60 members" in result.stderr
    assert f"left out: {tmp_path}: TS-ERR-110: gone" in result.stderr
    assert "\x1b" not in result.stderr


def test_calibrate_of_nothing_starts_nothing(touchstone: Callable[..., Result], tmp_path: Path) -> None:
    result = touchstone("calibrate", str(tmp_path), "--adapters", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "'--adapters'" in result.stderr


def test_detectors_lists_the_catalogue(touchstone: Callable[..., Result]) -> None:
    result = touchstone("detectors")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in CATALOG)
    assert "cannot see" in result.stdout


def test_doctor_reports_both_processes(touchstone: Callable[..., Result]) -> None:
    result = touchstone("doctor", command=saying({"event": "doctor", "cuda": False, "threads": 2, "torch": "2.13.0"}))
    for word in ("python", "cores", "memory", "free disk", "observations", "isolation", "cuda", "threads"):
        assert word in result.stdout
    broken = touchstone("doctor", command=child("sys.exit(4)"))
    assert broken.exit_code == 3
    assert "ended with status 4" in broken.stdout


# Being stopped.

STOPPABLE = """
import signal, sys
from app import cli
from app.cli import following
from app.core import scanning
import functools
following.run_job = functools.partial(scanning.run_job, command={command!r})
cli.main({arguments!r})
"""

HANGS = """
    helper = subprocess.Popen([sys.executable, "-c", "import signal, time; {ignore}time.sleep(600)"])
    {ignore}
    open(os.path.join({folder!r}, "pids.partial"), "w").write(f"{{os.getpid()}} {{helper.pid}}")
    os.rename(os.path.join({folder!r}, "pids.partial"), os.path.join({folder!r}, "pids"))
    say("phase", name="sweep")
    time.sleep(600)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignore", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN); "], ids=["polite", "stubborn"])
def test_a_signal_ends_the_whole_group(tmp_path: Path, models: list[str], stop: signal.Signals, ignore: str) -> None:
    command = child(HANGS.format(folder=str(tmp_path), ignore=ignore))
    program = STOPPABLE.format(command=command, arguments=["scan", *models])
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits it as ignored
    )
    pids = wait_for_pids(tmp_path / "pids", parent)
    parent.send_signal(stop)
    stdout, stderr = parent.communicate(timeout=60)
    assert parent.returncode == 130, stderr
    assert stdout == ""
    assert "stopped" in stderr
    assert all(gone(pid) for pid in pids)
    assert not (tmp_path / "out").exists()


def wait_for_pids(file: Path, parent: subprocess.Popen[str]) -> list[int]:
    for _ in range(600):
        if file.exists():
            return [int(pid) for pid in file.read_text().split()]
        assert parent.poll() is None, parent.communicate()
        time.sleep(0.1)
    raise AssertionError("the child never started")


def test_a_defect_never_exits_as_a_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(scans, "CATALOG", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["detectors"])
    assert ended.value.code == 3
    assert "AttributeError" in capsys.readouterr().err


def test_main_passes_exit_codes_on(report_file: Callable[[Verdict], Path]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(report_file("no_evidence"))])
    assert ended.value.code in (0, None)
    with pytest.raises(SystemExit) as wrong:
        cli.main(["scan", "--no-such-option"])
    assert wrong.value.code == 2


def test_packages_of_the_same_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "PROJECT", tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["detectors"])
    assert ended.value.code == 3
    assert "`detectors` must be Touchstone's own" in capsys.readouterr().err
