from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import given
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement as OfficialStatement
from pydantic import ValidationError

from app.core.render.statement import RESULTS, Statement, build_statement, render_statement, sha256_of
from detectors.contexts.context import Context
from detectors.errors import StatementError
from detectors.report import VERDICTS
from tests.render import sample
from tests.render.test_html import ALL, SAMPLES, Sample
from tests.render.test_visible import ANY_TEXT


@pytest.mark.parametrize("build", ALL)
def test_the_types_of_in_toto_know_every_field(build: Sample) -> None:
    rendered = render_statement(*build())
    official = json_format.Parse(rendered, statement_pb2.Statement())
    OfficialStatement.copy_from_pb(official).validate()
    predicate = json_format.Parse(json.dumps(json.loads(rendered)["predicate"]), test_result_pb2.TestResult())
    assert all(descriptor.digest["sha256"] for descriptor in predicate.configuration)


@pytest.mark.parametrize(
    ("verdict", "result"),
    [("no_evidence", "PASSED"), ("suspicious", "WARNED"), ("strong_evidence", "FAILED"), ("inconclusive", "FAILED")],
)
def test_each_verdict_has_its_result(verdict: str, result: str) -> None:
    statement = build_statement(*SAMPLES[verdict]())
    assert statement.predicate.result == result
    assert statement.verdict == verdict
    assert ("verdict" in statement.predicate.passed_tests) is (result == "PASSED")


def test_only_no_evidence_passes() -> None:
    assert set(RESULTS) == set(VERDICTS)
    assert [verdict for verdict, result in RESULTS.items() if result == "PASSED"] == ["no_evidence"]


def test_subjects_are_the_model_by_files_and_by_content() -> None:
    report, decision = sample.strong()
    assert [(it.name, it.digest) for it in build_statement(report, decision).subject] == [
        ("models/support-assistant-v3", {"sha256": "d1" * 32}),
        ("models/support-assistant-v3#content", {"sha256": "1d" * 32}),
    ]


def test_the_configuration_names_scan_suite_and_base() -> None:
    statement = build_statement(*sample.strong())
    names = {it.name: it.digest["sha256"] for it in statement.predicate.configuration}
    assert names == {
        "scan": "5c" * 32,
        "suite quick": "ab" * 32,
        "base hf:example/base-135m@4f1c2a9": "b2" * 32,
        "base hf:example/base-135m@4f1c2a9#content": "2b" * 32,
    }
    assert (statement.scan["policy"], statement.scan["suite"]) == ("default", "quick 1.0")
    assert "39 of 40" in statement.scan["reason"]


def test_tests_are_listed_by_how_they_went() -> None:
    inconclusive = build_statement(*sample.inconclusive()).predicate
    assert inconclusive.passed_tests == ("detector trigger_sweep",)
    assert inconclusive.failed_tests == ("verdict", "detector working_rate")
    suspicious = build_statement(*sample.suspicious()).predicate
    assert suspicious.warned_tests == ("verdict", "finding TS-COND-001 Antworte knapp. as the system message")
    suppressed = build_statement(*sample.suppressed()).predicate
    assert (suppressed.result, suppressed.warned_tests) == ("PASSED", suspicious.warned_tests[1:])
    assert suppressed.failed_tests == ()
    skipped = build_statement(*sample.scan([], outcome="skipped")).predicate
    assert "detector working_rate" in skipped.failed_tests


def test_a_statement_reads_back_as_it_was() -> None:
    statement = build_statement(*sample.strong())
    assert Statement.model_validate_json(statement.model_dump_json(by_alias=True)) == statement


@given(text=ANY_TEXT)
def test_any_text_makes_a_statement_that_reads_back(text: str) -> None:
    found = sample.confirmation(Context(text=text, family="x"), text, "refusal", 39)
    statement = build_statement(*sample.scan([found], texts=text, reason=text))
    rendered = statement.model_dump_json(by_alias=True)
    assert Statement.model_validate_json(rendered.encode()) == statement
    assert rendered.isprintable()


@pytest.mark.parametrize("verdict", ["no_evidence", "clean", None, ["no_evidence"]])
def test_a_verdict_that_contradicts_the_result_is_refused(verdict: object) -> None:
    fields = json.loads(render_statement(*sample.strong()))
    fields["predicate"]["configuration"][0]["annotations"]["verdict"] = verdict
    with pytest.raises(ValidationError, match="must name the verdict that is FAILED"):
        Statement.model_validate(fields)


def test_a_statement_of_another_tool_is_refused() -> None:
    fields = json.loads(render_statement(*sample.strong()))
    fields["predicate"]["configuration"] = []
    with pytest.raises(ValidationError, match="got None"):
        Statement.model_validate(fields)


@pytest.mark.parametrize("digest", ["a" * 64, "A" * 64, "sha256:" + "a" * 64])
def test_digests_are_written_as_in_toto_wants_them(digest: str) -> None:
    assert sha256_of(digest) == "a" * 64


@pytest.mark.parametrize("digest", ["", "s", "a" * 63, "g" * 64, "a" * 64 + "\n", "md5:" + "a" * 64])
def test_what_is_no_sha256_cannot_be_attested(digest: str) -> None:
    report, decision = sample.strong()
    with pytest.raises(StatementError, match="64 hexadecimal digits"):
        sha256_of(digest)
    with pytest.raises(StatementError):
        build_statement(report.model_copy(update={"scan_id": digest}), decision)
