"""Signing and verifying from the command line, with real keys, files and digests."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app import cli
from app.core.render.statement import build_statement
from app.core.signing import load_private_key, sign
from detectors.engine.files import file_digest, list_files, read_manifest
from tests.render import sample
from tests.render.test_html import SAMPLES

DIGEST = "d1" * 32
CODES = {"strong_evidence": 1, "suspicious": 1, "inconclusive": 3, "no_evidence": 0}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.touchstone, [str(argument) for argument in arguments])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    result = run("keys", "signing-init", tmp_path / "release.pem")
    assert result.exit_code == 0, result.output
    return tmp_path / "release.pem"


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("release.pub.pem")


@pytest.fixture
def signed(tmp_path: Path, key: Path) -> Callable[[str], Path]:
    """The envelope of a sample report, made by `touchstone sign`."""

    def make(verdict: str) -> Path:
        report, _ = SAMPLES[verdict]()
        (tmp_path / "report.json").write_text(report.model_dump_json())
        result = run("sign", tmp_path / "report.json", "--key", key, "--out", tmp_path / "envelope.json")
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        return tmp_path / "envelope.json"

    return make


def test_a_new_key_is_shown_and_never_overwritten(tmp_path: Path) -> None:
    result = run("keys", "signing-init", tmp_path / "k.pem")
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert f"public   {tmp_path / 'k.pub.pem'}" in result.stdout
    assert "key id   " in result.stdout
    again = run("keys", "signing-init", tmp_path / "k.pem")
    assert again.exit_code == 2
    assert "TS-ERR-152" in again.stderr


@pytest.mark.parametrize("verdict", SAMPLES)
def test_the_attested_verdict_decides_the_exit_code(signed: Callable[[str], Path], public: Path, verdict: str) -> None:
    result = run("verify", signed(verdict), "--key", public, "--digest", DIGEST)
    assert result.exit_code == CODES[verdict], result.output
    assert f"sha256:{DIGEST}  models/support-assistant-v3" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("verdict", "fail_on", "code"),
    [("suspicious", "strong_evidence", 0), ("strong_evidence", "never", 0), ("inconclusive", "never", 3)],
)
def test_fail_on_means_what_it_means_for_a_scan(
    signed: Callable[[str], Path], public: Path, verdict: str, fail_on: str, code: int
) -> None:
    assert run("verify", signed(verdict), "--key", public, "--fail-on", fail_on).exit_code == code


def test_what_was_attested_is_shown(signed: Callable[[str], Path], public: Path) -> None:
    shown = run("verify", signed("strong_evidence"), "--key", public)
    assert shown.stdout.startswith("STRONG EVIDENCE OF A BACKDOOR  (in-toto result FAILED)\n")
    for fact in ("39 of 40", "quick 1.0", "2025-11-21T10:58:26Z", "base hf:example/base-135m@4f1c2a9", "by key "):
        assert fact in shown.stdout
    assert "no model was given" in shown.stderr
    as_json = json.loads(run("verify", signed("strong_evidence"), "--key", public, "--json").stdout)
    assert as_json["verdict"] == "strong_evidence"
    assert as_json["statement"]["subject"][0]["digest"] == {"sha256": DIGEST}


def test_hostile_text_reaches_no_terminal(tmp_path: Path, key: Path, public: Path) -> None:
    statement = build_statement(*sample.hostile())
    scan = statement.predicate.configuration[0]
    forged = scan.model_copy(
        update={"annotations": scan.annotations | {"policy": "a\x1b[2Jb\u202e", "suite": "x" * 9_999}}
    )
    predicate = statement.predicate.model_copy(update={"configuration": (forged,)})
    (tmp_path / "e.json").write_text(sign(statement.model_copy(update={"predicate": predicate}), load_private_key(key)))
    result = run("verify", tmp_path / "e.json", "--key", public)
    assert "policy   a⟨U+001B ESCAPE⟩[2Jb⟨U+202E RIGHT-TO-LEFT OVERRIDE⟩" in result.stdout
    assert "more characters cut" in result.stdout
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_any_of_several_trusted_keys_will_do(signed: Callable[[str], Path], public: Path, tmp_path: Path) -> None:
    run("keys", "signing-init", tmp_path / "other.pem")
    other = tmp_path / "other.pub.pem"
    envelope = signed("no_evidence")
    assert run("verify", envelope, "--key", other, "--key", public).exit_code == 0
    wrong = run("verify", envelope, "--key", other)
    assert (wrong.exit_code, wrong.stdout) == (3, "")
    assert "TS-ERR-401" in wrong.stderr


def test_another_model_is_no_pass(signed: Callable[[str], Path], public: Path) -> None:
    result = run("verify", signed("no_evidence"), "--key", public, "--digest", "ee" * 32)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "TS-ERR-402" in result.stderr


def test_an_altered_envelope_is_no_pass(signed: Callable[[str], Path], public: Path) -> None:
    envelope = signed("no_evidence")
    fields = json.loads(envelope.read_text())
    envelope.write_text(json.dumps(fields | {"payload": fields["payload"][:-8] + "AAAAAAA="}))
    result = run("verify", envelope, "--key", public)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "altered after it was signed" in result.stderr


def test_a_model_directory_is_compared_by_its_files(tmp_path: Path, key: Path, public: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    report, decision = sample.no_evidence()
    card = report.subject.model_copy(update={"file_digest": file_digest(read_manifest(list_files(model)))})
    attested = build_statement(report.model_copy(update={"subject": card}), decision)
    (tmp_path / "e.json").write_text(sign(attested, load_private_key(key)))
    result = run("verify", tmp_path / "e.json", "--key", public, "--model", model)
    assert result.exit_code == 0, result.output
    (model / "config.json").write_text('{"changed": true}')
    changed = run("verify", tmp_path / "e.json", "--key", public, "--model", model)
    assert changed.exit_code == 3
    assert "TS-ERR-402" in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--digest", "abc"], "TS-ERR-150"),
        (["--digest", DIGEST, "--model", "."], "give one of them"),
        (["--model", "/no/such/model"], "TS-ERR-101"),
        (["--key", "/no/such/key.pem"], "TS-ERR-152"),
    ],
)
def test_a_bad_call_is_explained(signed: Callable[[str], Path], public: Path, arguments: list[str], says: str) -> None:
    result = run("verify", signed("no_evidence"), "--key", public, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_what_is_no_envelope_is_explained(tmp_path: Path, public: Path) -> None:
    (tmp_path / "e.json").write_text("{}")
    assert "TS-ERR-151" in run("verify", tmp_path / "e.json", "--key", public).stderr
    missing = run("verify", tmp_path / "none.json", "--key", public)
    assert missing.exit_code == 2
    assert "`ENVELOPE` must be a readable file" in missing.stderr
    assert run("verify", tmp_path / "e.json").exit_code == 2


@pytest.mark.parametrize("command", [["sign", "--key"], ["report", "--format", "in-toto"]], ids=["sign", "report"])
def test_a_report_without_digests_cannot_be_attested(tmp_path: Path, key: Path, command: list[str]) -> None:
    report, _ = sample.strong()
    (tmp_path / "r.json").write_text(report.model_copy(update={"scan_id": "s"}).model_dump_json())
    name, *options = command
    result = run(name, tmp_path / "r.json", *options, *([key] if name == "sign" else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "TS-ERR-150" in result.stderr


def test_signing_needs_a_private_key(tmp_path: Path, public: Path) -> None:
    report, _ = sample.strong()
    (tmp_path / "r.json").write_text(report.model_dump_json())
    result = run("sign", tmp_path / "r.json", "--key", public)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "TS-ERR-152" in result.stderr


def test_an_envelope_without_a_file_is_printed(tmp_path: Path, key: Path, public: Path) -> None:
    report, _ = sample.no_evidence()
    (tmp_path / "r.json").write_text(report.model_dump_json())
    (tmp_path / "e.json").write_text(run("sign", tmp_path / "r.json", "--key", key).stdout)
    assert run("verify", tmp_path / "e.json", "--key", public, "--digest", DIGEST).exit_code == 0


def test_the_policy_that_signs_is_attested(tmp_path: Path, key: Path, public: Path) -> None:
    report, _ = sample.suspicious()
    (tmp_path / "r.json").write_text(report.model_dump_json())
    run("sign", tmp_path / "r.json", "--key", key, "--policy", "strict", "--out", tmp_path / "e.json")
    shown = run("verify", tmp_path / "e.json", "--key", public, "--fail-on", "strong_evidence")
    assert shown.exit_code == 1
    assert "policy   strict" in shown.stdout
