"""Commands that ask a service: what they send, what they show, and how they end. The service is a real HTTP server."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from app import cli, client
from app.cli import keyring
from app.core.gating import Gate
from app.core.keys import SCOPES
from app.core.render.formats import FORMATS
from tests.cli.scripted import KEY, SCAN, Answer, ScriptedService, events, problem, scripted, status
from tests.render import sample

DIGEST = "d1" * 32
ESCAPE = "\x1b[2J"

Run = Callable[..., Result]


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    with scripted() as running:
        yield running


@pytest.fixture
def run(service: ScriptedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the service, with its key in a file."""
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    monkeypatch.setenv("TOUCHSTONE_URL", service.url)
    monkeypatch.setattr(client, "POLL_S", 0.01)

    def invoke(*arguments: str, key: bool = True) -> Result:
        given = ["--key-file", str(key_file)] if key else []
        return CliRunner().invoke(cli.touchstone, [*arguments, *given])

    return invoke


def accepted(service: ScriptedService, *following: Any) -> None:
    """A service that takes a scan; what it says of it from then on."""
    service.on("POST /v1/scans", Answer(status("queued"), 202))
    if following:
        service.on(f"GET /v1/scans/{SCAN}", *following)


# submit


def test_submit_prints_the_scans_id(service: ScriptedService, run: Run) -> None:
    accepted(service)
    result = run("submit", "hf:org/model@1", "--base", "base", "--suite", "smoke", "--policy", "strict", "--label", "a")
    assert (result.exit_code, result.stdout) == (0, f"{SCAN}\n"), result.output
    (asked,) = service.asked
    wanted = {"model": "hf:org/model@1", "base": "base", "suite": "smoke", "policy": "strict", "labels": ["a"]}
    assert asked.body == wanted
    assert len(asked.headers["Idempotency-Key"]) >= 16


def test_submit_leaves_to_the_service_what_is_not_given(service: ScriptedService, run: Run) -> None:
    accepted(service)
    result = run("submit", "model", "--json")
    assert json.loads(result.stdout)["state"] == "queued"
    assert service.asked[0].body == {"model": "model", "labels": []}


@pytest.mark.parametrize(
    ("verdict", "fail_on", "code"),
    [
        ("strong_evidence", "suspicious", 1),
        ("suspicious", "suspicious", 1),
        ("suspicious", "strong_evidence", 0),
        ("strong_evidence", "never", 0),
        ("inconclusive", "suspicious", 3),
        ("no_evidence", "suspicious", 0),
    ],
)
def test_a_wait_ends_with_the_verdicts_code(
    service: ScriptedService, run: Run, verdict: str, fail_on: str, code: int
) -> None:
    accepted(service, status("running"), status("succeeded", verdict))
    result = run("submit", "model", "--wait", "--fail-on", fail_on)
    assert result.exit_code == code, result.output
    assert SCAN in result.stdout
    assert result.stderr.splitlines() == [f"scan {SCAN}", "running sweep", "succeeded sweep"]


@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_a_scan_without_a_verdict_is_no_pass(service: ScriptedService, run: Run, state: str) -> None:
    accepted(service, status(state, error={"code": "TS-ERR-114", "message": f"unrelated {ESCAPE}"}))
    result = run("submit", "model", "--wait")
    assert result.exit_code == 3
    assert result.stdout.startswith(f"{state.upper()}: TS-ERR-114: unrelated ⟨U+001B ESCAPE⟩")
    as_json = run("wait", SCAN, "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["state"]) == (3, state)


# wait


def test_a_wait_that_is_over_says_so(service: ScriptedService, run: Run) -> None:
    service.on(f"GET /v1/scans/{SCAN}", status("running"))
    result = run("wait", SCAN, "--timeout", "0")
    assert result.exit_code == 4
    assert result.stdout == f"STILL RUNNING  (scan {SCAN})\n"


def test_events_say_when_to_look(service: ScriptedService, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "POLL_S", 3600.0)  # whoever only polls would not come back
    done = status("succeeded", "no_evidence")
    service.on(f"GET /v1/scans/{SCAN}", status("queued"), done)
    service.on(f"GET /v1/scans/{SCAN}/events", events(status("running"), done))
    result = run("wait", SCAN)
    assert result.exit_code == 0, result.output
    assert service.paths() == [f"GET /v1/scans/{SCAN}", f"GET /v1/scans/{SCAN}/events", f"GET /v1/scans/{SCAN}"]
    assert result.stderr.splitlines() == ["queued sweep", "running sweep", "succeeded sweep"]


@pytest.mark.parametrize(
    "stream",
    [
        problem(404, "TS-ERR-604", "none"),
        Answer(b"<html>", headers={"Content-Type": "text/html"}),
        Answer(b"data: {}\n\ndata: nonsense\n\n", headers={"Content-Type": "text/event-stream"}),
        events(),
    ],
    ids=["missing", "no stream", "nonsense", "empty"],
)
def test_without_events_the_scan_is_looked_at(service: ScriptedService, run: Run, stream: Answer) -> None:
    service.on(f"GET /v1/scans/{SCAN}/events", stream)
    service.on(f"GET /v1/scans/{SCAN}", status("queued"), status("running"), status("succeeded", "no_evidence"))
    assert run("wait", SCAN).exit_code == 0
    assert service.paths().count(f"GET /v1/scans/{SCAN}") == 3


def test_an_event_alone_decides_nothing(service: ScriptedService, run: Run) -> None:
    service.on(f"GET /v1/scans/{SCAN}/events", events(status("succeeded", "no_evidence")))
    service.on(f"GET /v1/scans/{SCAN}", status("running"), status("succeeded", "suspicious"))
    assert run("wait", SCAN).exit_code == 1


def test_a_service_that_is_away_for_a_while_is_waited_for(service: ScriptedService, run: Run) -> None:
    away = problem(503, "TS-ERR-204", "a part of the service cannot be used right now")
    service.on(f"GET /v1/scans/{SCAN}", away, Answer(b"<html>", 502), away, status("succeeded", "no_evidence"))
    assert run("wait", SCAN).exit_code == 0


def test_patience_ends(service: ScriptedService, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE_S", 0.0)
    service.on(f"GET /v1/scans/{SCAN}", problem(503, "TS-ERR-204", "not now"))
    result = run("wait", SCAN)
    assert result.exit_code == 3
    assert "TS-ERR-205: the service answered 503: not now" in result.stderr


# gate


@pytest.mark.parametrize(
    ("allow", "outcome", "verdict", "fields", "code"),
    [
        (True, "pass", "no_evidence", {}, 0),
        (True, "warn", "suspicious", {}, 0),
        (False, "fail", "strong_evidence", {}, 1),
        (False, "inconclusive", "inconclusive", {}, 3),
        (False, "closed", None, {}, 3),
        (False, "closed", None, {"state": "running"}, 4),
    ],
)
def test_the_gate_tells_a_pipeline(
    service: ScriptedService, run: Run, allow: bool, outcome: Any, verdict: Any, fields: dict[str, str], code: int
) -> None:
    decided = Gate(
        allow=allow,
        outcome=outcome,
        reason="as tested",
        verdict=verdict,
        subject_digest=DIGEST,
        decided_under="default",
    )
    service.on("GET /v1/gate", decided.model_dump(mode="json") | fields)
    result = run("gate", "model", "--base", "base", "--policy", "strict", "--max-age", "30d")
    assert result.exit_code == code, result.output
    assert result.stdout.startswith("allowed: as tested" if allow else "not allowed: as tested")
    assert f"files    {DIGEST}" in result.stdout
    asked = parse_qs(urlsplit(service.asked[0].path).query)
    assert asked == {"model": ["model"], "base": ["base"], "policy": ["strict"], "max_age": ["30d"]}
    as_json = run("gate", "model", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["allow"]) == (code, allow)


@pytest.mark.parametrize("said", [{"allow": True}, [], Answer(b"<html>")])
def test_an_answer_that_is_no_decision_never_passes(service: ScriptedService, run: Run, said: Any) -> None:
    service.on("GET /v1/gate", said)
    result = run("gate", "model")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no decision of a gate" in result.stderr


# report and cancel


@pytest.mark.parametrize("name", FORMATS)
def test_a_report_comes_in_every_form(service: ScriptedService, run: Run, tmp_path: Path, name: str) -> None:
    document = FORMATS[name].render(*sample.strong())
    service.on(f"GET /v1/scans/{SCAN}/report", Answer(document.encode()))
    printed, out = run("report", SCAN, "--format", name), tmp_path / "written"
    assert run("report", SCAN, "--format", name, "--policy", "strict", "--out", str(out)).exit_code == 0
    assert printed.exit_code == 0
    assert printed.stdout.rstrip() == document.rstrip()
    assert out.read_text() == document
    assert [it.headers["Accept"] for it in service.asked] == [FORMATS[name].media_type] * 2
    assert [urlsplit(it.path).query for it in service.asked] == ["", "policy=strict"]


def test_what_a_service_renders_commands_no_terminal(service: ScriptedService, run: Run) -> None:
    service.on(f"GET /v1/scans/{SCAN}/report", Answer(f"fine\n\tindented\n{ESCAPE}gone\r\n".encode()))
    result = run("report", SCAN)
    assert "\x1b" not in result.stdout
    assert result.stdout.splitlines()[:2] == ["fine", "\tindented"]


def test_a_report_that_is_not_ready_is_no_wrong_call(service: ScriptedService, run: Run) -> None:
    service.on(f"GET /v1/scans/{SCAN}/report", problem(409, "TS-ERR-606", "the scan is running"))
    result = run("report", SCAN)
    assert result.exit_code == 4
    assert "TS-ERR-606" in result.stderr


def test_a_file_goes_before_a_scan_of_that_name(
    service: ScriptedService, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(SCAN).write_text(sample.strong()[0].model_dump_json())
    assert run("report", SCAN).stdout.startswith("STRONG EVIDENCE")
    assert service.asked == []


def test_cancel_asks_for_the_end(service: ScriptedService, run: Run) -> None:
    service.on(f"POST /v1/scans/{SCAN}/cancel", Answer(status("running"), 202))
    assert run("cancel", SCAN).exit_code == 0
    assert service.paths() == [f"POST /v1/scans/{SCAN}/cancel"]


def test_an_id_is_one_part_of_an_address(service: ScriptedService, run: Run) -> None:
    assert run("cancel", "../keys?x=1#y").exit_code == 2
    assert [it.path for it in service.asked] == ["/v1/scans/..%2Fkeys%3Fx%3D1%23y/cancel"]


# Keys and addresses.


def test_the_key_may_come_from_the_environment(
    service: ScriptedService, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(service)
    monkeypatch.setenv("TOUCHSTONE_KEY", KEY)
    assert run("submit", "model", key=False).exit_code == 0
    monkeypatch.setenv("TOUCHSTONE_KEY", "ts_other")
    refused = run("submit", "model", key=False)
    assert refused.exit_code == 2
    assert "TS-ERR-602: the service answered 401: no valid API key was given; give a valid key" in refused.stderr
    assert run("submit", "model").exit_code == 0


@pytest.mark.parametrize("key", ["", "two words", "ts_\u00e9", "line\nbreak"])
def test_what_is_no_key_asks_nothing(service: ScriptedService, run: Run, tmp_path: Path, key: str) -> None:
    (tmp_path / "other").write_text(key)
    result = run("submit", "model", "--key-file", str(tmp_path / "other"), key=False)
    assert result.exit_code == 2
    assert "the service wants an API key" in result.stderr
    assert service.asked == []


def test_a_key_file_that_is_not_there_is_a_wrong_call(service: ScriptedService, run: Run, tmp_path: Path) -> None:
    result = run("submit", "model", "--key-file", str(tmp_path / "nowhere"), key=False)
    assert result.exit_code == 2
    assert "`--key-file` must be a readable file" in result.stderr


@pytest.mark.parametrize("url", ["touchstone.example", "file:///etc/passwd", "https://", "http://x/?a=b", "http://[x"])
def test_an_address_that_is_none_is_a_wrong_call(run: Run, url: str) -> None:
    result = run("submit", "model", "--url", url)
    assert result.exit_code == 2
    assert "`--url` must be an address" in result.stderr


def test_no_service_is_no_verdict(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for command in (["submit", "m"], ["gate", "m"], ["wait", SCAN, "--timeout", "0"], ["report", SCAN]):
        result = run(*command, "--url", f"http://127.0.0.1:{port}")
        assert (result.exit_code, result.stdout) == (3, "")
        assert f"TS-ERR-205: the service at http://127.0.0.1:{port} does not answer" in result.stderr


@pytest.mark.parametrize(
    ("status_code", "exit_code"), [(400, 2), (403, 2), (404, 2), (422, 2), (409, 2), (429, 3), (500, 3), (503, 3)]
)
def test_a_refusal_is_explained_without_its_escapes(
    service: ScriptedService, run: Run, status_code: int, exit_code: int
) -> None:
    service.on("POST /v1/scans", problem(status_code, "TS-ERR-600", f"there is no {ESCAPE}suite"))
    result = run("submit", "model")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert f"the service answered {status_code}: there is no ⟨U+001B ESCAPE⟩[2Jsuite" in result.stderr


@pytest.mark.parametrize("body", [b"", b"<html>", [], {"state": "queued"}, {"id": 7, "state": "queued"}])
def test_an_answer_of_another_form_is_no_success(service: ScriptedService, run: Run, body: Any) -> None:
    service.on("POST /v1/scans", body)
    result = run("submit", "model")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "something that this client does not know" in result.stderr


def test_a_redirect_is_not_followed(service: ScriptedService, run: Run) -> None:
    service.on("GET /v1/gate", Answer(b"", 307, {"Location": f"{service.url}/stolen"}))
    assert run("gate", "model").exit_code == 3
    assert service.paths() == ["GET /v1/gate"]


def test_an_answer_without_end_is_cut_off(service: ScriptedService, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_LIMIT", 1000)
    service.on(f"GET /v1/scans/{SCAN}/report", Answer(b"x" * 1001))
    result = run("report", SCAN)
    assert result.exit_code == 3
    assert "more than 1,000 bytes" in result.stderr


# keys


def key(**fields: Any) -> dict[str, Any]:
    known = {"id": "1a" * 16, "name": "ci", "prefix": "1f2e", "scopes": ["report:read"]}
    times = {"created": "2026-01-01T00:00:00Z", "expires": None, "revoked": None}
    return known | times | fields


def test_keys_are_listed_over_all_pages(service: ScriptedService, run: Run) -> None:
    ended = key(id="2b" * 16, name=f"old{ESCAPE}", revoked="2026-02-03T00:00:00Z")
    service.on("GET /v1/keys", {"items": [key()], "next": "c2"}, {"items": [ended], "next": None})
    result = run("keys", "list")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.split() == ["1a" * 16, "1f2e", "without", "end", "report:read", "ci"]
    assert "revoked 2026-02-03" in second
    assert "\x1b" not in second
    assert [urlsplit(it.path).query for it in service.asked] == ["", "cursor=c2"]
    service.on("GET /v1/keys", {"items": [key()], "next": None})
    assert [it["name"] for it in json.loads(run("keys", "list", "--json").stdout)] == ["ci"]


def test_a_new_key_is_all_there_is_on_standard_output(service: ScriptedService, run: Run) -> None:
    service.on("POST /v1/keys", Answer(key(key="ts_new"), 201))
    result = run("keys", "create", "ci", "--scope", "report:read", "--scope", "scan:write", "--expires", "90d")
    assert (result.exit_code, result.stdout) == (0, "ts_new\n"), result.output
    body = service.asked[0].body
    assert (body["name"], body["scopes"]) == ("ci", ["report:read", "scan:write"])
    left = datetime.fromisoformat(body["expires"]) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)
    assert run("keys", "create", "ci", "--scope", "admin").exit_code == 0
    assert service.asked[1].body == {"name": "ci", "scopes": ["admin"]}


def test_keys_are_rotated_and_revoked(service: ScriptedService, run: Run) -> None:
    service.on(f"POST /v1/keys/{'1a' * 16}/rotate", Answer(key(key="ts_next"), 201))
    service.on(f"DELETE /v1/keys/{'1a' * 16}", key(revoked="2026-02-03T00:00:00Z"))
    assert run("keys", "rotate", "1a" * 16, "--grace", "2h").stdout == "ts_next\n"
    assert service.asked[0].body == {"grace_s": 7200}
    assert run("keys", "revoke", "1a" * 16).exit_code == 0


@pytest.mark.parametrize("given", ["", "90", "d", "-1d", "1w", "1 d", "9999999d"])
def test_a_length_of_time_needs_its_unit(service: ScriptedService, run: Run, given: str) -> None:
    result = run("keys", "create", "ci", "--scope", "admin", "--expires", given)
    assert result.exit_code == 2
    assert "such as 90d" in result.stderr
    assert service.asked == []


def test_the_scopes_are_those_of_the_service() -> None:
    assert keyring.SCOPES == SCOPES
