"""The GitHub Action, run as a runner runs it, against a real HTTP server on this machine."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from jsonschema import validators

from app import gate_client
from app.core.gating import Gate
from app.core.render.formats import FORMATS
from detectors.report import VERDICTS
from tests.render import sample

ACTION = Path(__file__).parents[1] / "docker" / "github-action" / "action.yml"
KEY = "ts_k3y-for-tests"
INPUTS = {"model": "hf:org/name@4f1c2a9", "base": "hf:org/base@1", "key": KEY}
SCAN = "scan-01"
DIGEST = "d1" * 32
MARKDOWN, SARIF = (FORMATS[name].render(*sample.strong()) for name in ("markdown", "sarif"))


def decision(allow: Any, verdict: Any = None, scan_id: Any = None, **fields: Any) -> dict[str, Any]:
    """What `app.core.gating.Gate` says, in JSON."""
    outcome = {"strong_evidence": "fail", "suspicious": "fail", "no_evidence": "pass"}.get(str(verdict), "closed")
    gate = Gate(
        allow=False, outcome=outcome, reason="as tested", subject_digest=DIGEST, decided_under="default"
    ).model_dump(mode="json")
    return gate | {"allow": allow, "verdict": verdict, "scan_id": scan_id} | fields


@dataclass
class Service:
    """A gate that answers as it is told, and remembers what it was asked."""

    status: int = 200
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    reports: bool = True
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def reply(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append((path, headers))
        if headers.get("Authorization") != f"Bearer {KEY}":
            return 401, json.dumps({"title": "Unauthorized", "detail": "the key is not known"}).encode()
        if path.startswith("/v1/gate?"):
            body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
            return self.status, body
        reports = {"text/markdown": MARKDOWN, "application/sarif+json": SARIF}
        if self.reports and path == f"/v1/scans/{SCAN}/report":
            return 200, reports[headers["Accept"]].encode()
        return 404, b"{}"


@pytest.fixture
def service() -> Iterator[Service]:
    told = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = told.reply(self.path, dict(self.headers))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | told.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Ran:
    """How the action ended and what it left."""

    exit_code: int
    log: str
    summary: str
    outputs: dict[str, str]
    sarif: Path


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, service: Service) -> Run:
    """Runs the action's steps with inputs, as a runner does: expressions are filled in, scripts run with `sh -e`."""

    def act(**inputs: str) -> Ran:
        described = yaml.safe_load(ACTION.read_text())
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        defaults = {name: it.get("default", "") for name, it in described["inputs"].items()}
        known = defaults | {"url": f"http://127.0.0.1:{service.port}"} | INPUTS | given
        (step,) = described["runs"]["steps"]
        environment = {name: filled(value, known) for name, value in step["env"].items()} | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        }
        (tmp_path / "script").write_text(step["run"])
        command = [step["shell"], "-e", str(tmp_path / "script")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        outputs = (tmp_path / "output").read_text() if (tmp_path / "output").exists() else ""
        return Ran(
            done.returncode,
            done.stdout + done.stderr,
            (tmp_path / "summary").read_text(),
            dict(line.split("=", 1) for line in outputs.splitlines()),
            tmp_path / known["sarif-file"],
        )

    return act


def filled(value: str, inputs: dict[str, str]) -> str:
    found = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)
    assert found, value
    return inputs[found[1]]


# The action's description.


def test_the_action_is_what_github_expects() -> None:
    schema = json.loads((files("check_jsonschema.builtin_schemas.vendor") / "github-actions.json").read_text("utf-8"))
    described = yaml.safe_load(ACTION.read_text())
    validators.validator_for(schema)(schema).validate(described)
    assert all(it["description"] for it in (*described["inputs"].values(), *described["outputs"].values()))


def test_no_expression_stands_in_a_script() -> None:
    for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"]:
        assert "${{" not in step["run"]
    assert "${{" not in (ACTION.parent / "gate.sh").read_text()


def test_every_output_is_one_that_the_client_writes() -> None:
    outputs = yaml.safe_load(ACTION.read_text())["outputs"]
    written = gate_client._outputs(gate_client.Answer(True, "pass", "", None, None, None, None))
    assert {line.split("=")[0] for line in written.splitlines()} | {"sarif"} == set(outputs)
    assert all(it["value"] == f"${{{{ steps.gate.outputs.{name} }}}}" for name, it in outputs.items())


def test_the_client_knows_our_verdicts() -> None:
    assert gate_client.VERDICTS == VERDICTS


# What it does.


def test_an_allowed_model_passes_with_its_report(service: Service, run: Run) -> None:
    service.answer = decision(True, "no_evidence", SCAN)
    ran = run(policy="strict", max_age="30d")
    assert ran.exit_code == 0, ran.log
    assert ran.outputs == {
        "allow": "true",
        "verdict": "no_evidence",
        "scan-id": SCAN,
        "digest": DIGEST,
        "sarif": "touchstone.sarif",
    }
    assert ran.summary.startswith("**Touchstone gate: allowed.** `as tested`")
    assert MARKDOWN in ran.summary
    assert ran.sarif.read_text() == SARIF
    assert parse_qs(urlsplit(service.asked[0][0]).query) == {
        "model": ["hf:org/name@4f1c2a9"],
        "base": ["hf:org/base@1"],
        "policy": ["strict"],
        "max_age": ["30d"],
    }
    assert KEY not in ran.log + ran.summary


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (decision(False, "strong_evidence", SCAN), 1),
        (decision(False, "suspicious", SCAN), 1),
        (decision(False, "inconclusive", SCAN), 3),
        (decision(False, "inconclusive", SCAN, outcome="fail"), 3),
        (decision(False, "no_evidence", SCAN, outcome="closed"), 3),
        (decision(False, "no_evidence", SCAN, outcome="fail"), 1),
        (decision(False, "suspicious", SCAN, outcome="closed"), 3),
        (decision(False), 3),
        (decision(False, state="failed"), 3),
        (decision(False, state="queued"), 4),
        (decision(False, state="running"), 4),
        (decision(False, "strong_evidence", SCAN, state="running"), 1),
    ],
)
def test_a_model_that_is_not_allowed_never_passes(
    service: Service, run: Run, answer: dict[str, Any], code: int
) -> None:
    service.answer = answer
    ran = run()
    assert ran.exit_code == code, ran.log
    assert ran.outputs["allow"] == "false"
    assert "touchstone: not allowed: as tested" in ran.log
    assert ran.sarif.exists() is (answer["scan_id"] is not None)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        [],
        None,
        {"allow": True},
        decision("true", "no_evidence"),
        decision(1, "no_evidence"),
        decision(True, "clean"),
        decision(True, ["no_evidence"]),
        decision(True, "no_evidence", "../../keys"),
        decision(True, "no_evidence", 7),
        decision(True, "no_evidence", "a\nallow=true"),
        decision(True, "no_evidence", subject_digest=None),
        decision(True, "no_evidence", subject_digest="x\nallow=true"),
        decision(True, "no_evidence", reason=["no text"]),
    ],
    ids=repr,
)
def test_an_answer_that_is_not_understood_never_passes(service: Service, run: Run, answer: Any) -> None:
    service.answer = answer
    ran = run()
    assert ran.exit_code == 3, ran.log
    assert ran.outputs == {}


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (403, 2), (404, 2), (422, 2), (302, 3), (429, 3), (500, 3), (503, 3)]
)
def test_a_refusal_never_passes_and_is_explained(service: Service, run: Run, status: int, code: int) -> None:
    service.status, service.answer = status, {"detail": "the base is not known", "allow": True}
    ran = run()
    assert (ran.exit_code, ran.outputs) == (code, {})
    assert f"the service answered {status}: the base is not known" in ran.log


def test_a_bad_key_is_a_wrong_call(run: Run) -> None:
    ran = run(key="ts_other")
    assert ran.exit_code == 2
    assert "401: the key is not known" in ran.log
    assert "not allowed" in ran.summary


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak: x"])
def test_no_key_asks_nothing(service: Service, run: Run, key: str) -> None:
    assert run(key=key).exit_code == 2
    assert service.asked == []


def test_a_service_that_is_not_there_never_passes(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ran = run(url=f"http://127.0.0.1:{port}")
    assert ran.exit_code == 3
    assert "does not answer" in ran.log


@pytest.mark.parametrize("url", ["", "touchstone.example", "file:///etc/passwd", "https://", "http://x/?a=b"])
def test_an_address_that_is_none_is_a_wrong_call(run: Run, url: str) -> None:
    ran = run(url=url)
    assert ran.exit_code == 2
    assert "`--url` must be an address" in ran.log


def test_a_redirect_is_not_followed(service: Service, run: Run) -> None:
    service.status, service.answer = 307, b""
    service.headers = {"Location": f"http://127.0.0.1:{service.port}/stolen"}
    assert run().exit_code == 3
    assert [path.partition("?")[0] for path, _ in service.asked] == ["/v1/gate"]


def test_a_report_that_cannot_be_had_changes_no_decision(service: Service, run: Run) -> None:
    service.answer, service.reports = decision(True, "no_evidence", SCAN), False
    ran = run()
    assert ran.exit_code == 0
    assert "the report could not be fetched" in ran.log
    assert "sarif" not in ran.outputs


@pytest.mark.parametrize("option", ["--summary", "--output"])
def test_a_fault_of_the_clients_own_machine_is_no_verdict(service: Service, option: str) -> None:
    service.answer = decision(True, "no_evidence", SCAN)
    where = [f"--url=http://127.0.0.1:{service.port}", "--model=m", "--base=b", f"{option}=/no/such/file"]
    command = [sys.executable, "-I", gate_client.__file__, *where]
    done = subprocess.run(command, input=KEY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    assert "FileNotFoundError" in done.stderr


def test_a_report_that_cannot_be_written_changes_no_decision(service: Service, run: Run) -> None:
    service.answer = decision(True, "no_evidence", SCAN)
    ran = run(sarif_file="no/such/file.sarif")
    assert (ran.exit_code, "sarif" in ran.outputs) == (0, False), ran.log


def test_what_the_service_says_commands_no_pipeline(service: Service, run: Run) -> None:
    service.answer = decision(False) | {"reason": "x\n::error::`boom`\x1b[2J\r\nallow=true"}
    ran = run()
    assert ran.exit_code == 3
    assert all(line.startswith("touchstone: ") for line in ran.log.splitlines())
    assert ran.outputs["allow"] == "false"
    assert ran.summary == "**Touchstone gate: not allowed.** `x?::error::?boom??[2J??allow=true`\n"


def test_hostile_inputs_stay_values(service: Service, run: Run, tmp_path: Path) -> None:
    service.answer = decision(False)
    hostile = f'"; touch {tmp_path}/owned; $(touch {tmp_path}/owned) `touch {tmp_path}/owned` --summary=x'
    assert run(model=hostile, base="--help").exit_code == 3
    asked = parse_qs(urlsplit(service.asked[0][0]).query)
    assert (asked["model"], asked["base"]) == ([hostile], ["--help"])
    assert not (tmp_path / "owned").exists()
