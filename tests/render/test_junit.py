"""JUnit has no official schema; what is checked is what Jenkins, GitLab and GitHub's reporters read."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from junitparser import JUnitXml

from app.core.render.junit import render_junit
from detectors.contexts.context import Context
from tests.render import sample
from tests.render.test_html import ALL, SAMPLES, Sample
from tests.render.test_visible import ANY_TEXT

ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message", "type"},
    "system-out": set(),
}
OUTCOMES = ("failure", "error", "skipped")


def parse(build: Sample) -> ElementTree.Element:
    return ElementTree.fromstring(render_junit(*build()))


def case(root: ElementTree.Element, name: str) -> ElementTree.Element:
    (found,) = [element for element in root.iter("testcase") if element.get("name") == name]
    return found


@pytest.mark.parametrize("build", ALL)
def test_only_elements_and_attributes_that_readers_know(build: Sample) -> None:
    root = parse(build)
    assert root.tag == "testsuites"
    assert [child.tag for child in root] == ["testsuite"]
    assert [child.tag for child in root[0]][:2] == ["properties", "testcase"]
    for element in root.iter():
        assert set(element.attrib) == ATTRIBUTES[element.tag], element.tag


@pytest.mark.parametrize("build", ALL)
def test_counts_are_those_of_the_cases(build: Sample) -> None:
    root = parse(build)
    cases = list(root.iter("testcase"))
    for element in (root, root[0]):
        assert element.get("tests") == str(len(cases))
        for tag, attribute in zip(OUTCOMES, ("failures", "errors", "skipped"), strict=True):
            assert element.get(attribute) == str(sum(case.find(tag) is not None for case in cases))
    assert all(sum(case.find(tag) is not None for tag in OUTCOMES) <= 1 for case in cases)
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)


@pytest.mark.parametrize(
    ("verdict", "failures", "errors"),
    [("strong_evidence", 3, 0), ("suspicious", 2, 0), ("inconclusive", 0, 2), ("no_evidence", 0, 0)],
)
def test_a_pipeline_passes_only_where_nothing_was_found(verdict: str, failures: int, errors: int) -> None:
    document = JUnitXml.fromstring(render_junit(*SAMPLES[verdict]()))
    assert (document.failures, document.errors, document.skipped) == (failures, errors, 0)


def test_a_skipped_detector_is_skipped_and_the_verdict_an_error() -> None:
    root = ElementTree.fromstring(render_junit(*sample.scan([], outcome="skipped", reason="no candidates")))
    skipped = case(root, "working_rate").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "skipped: no candidates"
    assert case(root, "verdict").find("error") is not None


def test_a_suppressed_finding_is_skipped_with_who_answers_for_it() -> None:
    document = JUnitXml.fromstring(render_junit(*sample.suppressed()))
    assert (document.failures, document.errors, document.skipped) == (0, 0, 1)
    skipped = case(parse(sample.suppressed), "TS-COND-001 Antworte knapp. as the system message").find("skipped")
    assert skipped is not None
    assert "by ana until 2025-12-22" in str(skipped.get("message"))


def test_a_finding_is_a_failure_with_its_numbers() -> None:
    failure = case(parse(sample.strong), "TS-TRIG-001 🐣 after the request").find("failure")
    assert failure is not None
    assert "on 39 of 40 fresh prompts" in str(failure.get("message"))
    assert sample.ADVERT in str(failure.text)


def test_the_suite_carries_digests_time_and_verdict() -> None:
    suite = parse(sample.strong)[0]
    properties = {element.get("name"): element.get("value") for element in suite.iter("property")}
    assert properties["touchstone.verdict"] == "strong_evidence"
    assert properties["touchstone.model.file_digest"] == "sha256:" + "d1" * 32
    assert properties["touchstone.base.content_digest"] == "sha256:" + "2b" * 32
    assert suite.get("timestamp") == "2025-11-21T10:58:26"
    assert case(suite, "trigger_sweep").get("time") == "201.7"


@given(text=ANY_TEXT)
def test_any_text_makes_legal_xml_in_which_it_can_be_read(text: str) -> None:
    found = sample.confirmation(Context(text=text, family="x"), text, "refusal", 39, words=text)
    rendered = render_junit(*sample.scan([found], texts=text, outcome="failed", reason=text))
    root = ElementTree.fromstring(rendered.encode())
    tags = [element.tag for element in root.iter()]
    assert (tags.count("testcase"), tags.count("failure"), tags.count("error")) == (4, 2, 1)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", rendered)
