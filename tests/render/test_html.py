from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from app.core.render.html import render_html
from app.core.render.words import VERDICT_WORDS
from detectors.report import Decision, Report, decide
from tests.render import sample

Sample = Callable[[], tuple[Report, Decision]]
SAMPLES: dict[str, Sample] = {
    "strong_evidence": sample.strong,
    "no_evidence": sample.no_evidence,
    "inconclusive": sample.inconclusive,
    "suspicious": sample.suspicious,
}
ALL: list[Sample] = [
    *SAMPLES.values(),
    sample.further,
    sample.shifted,
    sample.suppressed,
    sample.pictured,
    sample.hostile,
]
LOADS = {"src", "href", "srcset", "action", "formaction", "data", "poster", "xlink:href", "background"}


class Page(HTMLParser):
    """Elements with their attributes, the text of each script and style, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.raw.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            tag, attributes, text = self.raw[-1]
            self.raw[-1] = (tag, attributes, text + data)
        else:
            self.text += f"{data} "

    def words(self) -> str:
        return " ".join(self.text.split())


@cache
def render(build: Sample) -> str:
    return render_html(*build())


@cache
def page(build: Sample) -> Page:
    return Page(render(build))


@pytest.mark.parametrize("verdict", SAMPLES)
def test_every_verdict_renders_with_its_words(verdict: Any) -> None:
    _, decision = SAMPLES[verdict]()
    words = page(SAMPLES[verdict]).words()
    assert decision.verdict == verdict
    assert VERDICT_WORDS[decision.verdict].headline in words
    assert VERDICT_WORDS[decision.verdict].not_meant in words
    assert decision.reason in words


def test_no_verdict_says_clean_or_safe() -> None:
    said = " ".join(" ".join(words) for words in VERDICT_WORDS.values())
    assert not re.search(r"\b(clean|safe)\b", said, re.IGNORECASE)


@pytest.mark.parametrize("build", ALL)
def test_nothing_is_loaded_from_outside(build: Sample) -> None:
    parsed = page(build)
    loaded = [value for _, attributes in parsed.elements for key, value in attributes.items() if key in LOADS]
    assert set(loaded) <= {"#coverage"}
    styles = [text for tag, _, text in parsed.raw if tag == "style"]
    styles += [attributes["style"] or "" for _, attributes in parsed.elements if "style" in attributes]
    assert not re.search(r"url\(|@import", " ".join(styles))


@pytest.mark.parametrize("build", ALL)
def test_the_page_is_small(build: Sample) -> None:
    assert len(render(build).encode()) < 2_500_000


def test_no_hostile_text_becomes_markup() -> None:
    parsed = page(sample.hostile)
    ours = {tag for build in (*SAMPLES.values(), sample.pictured) for tag, _ in page(build).elements}
    assert {tag for tag, _ in parsed.elements} <= ours
    assert not [key for _, attributes in parsed.elements for key in attributes if key.startswith("on")]
    assert sum(tag == "script" for tag, _ in parsed.elements) == 5
    assert "<script>alert(1)</script>" in parsed.text
    assert "{{7*7}}" in parsed.text


def test_no_hostile_character_reaches_the_page() -> None:
    html = render(sample.hostile)
    for _, _, script in Page(html).raw:
        html = html.replace(script, "")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ue000\U000e0041]", html)
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in html


def test_data_for_the_charts_cannot_end_their_script() -> None:
    data = next(text for _, attributes, text in page(sample.hostile).raw if attributes.get("id") == "pictures")
    assert not set("<>&\u2028\u2029") & set(data)
    charts = json.loads(data)
    assert {kind: len(drawn) for kind, drawn in charts.items()} == {
        "landscape": 1,
        "entropies": 2,
        "map": 2,
        "battery": 6,
        "years": 1,
        "curve": 0,
    }
    assert len(charts["landscape"][0]) == 1_500
    assert any("<script>alert(1)</script>" in point[1] for point in charts["landscape"][0])


@pytest.mark.parametrize("build", ALL)
def test_the_policy_lists_exactly_the_scripts_of_the_page(build: Sample) -> None:
    parsed = page(build)
    policy = next(
        attributes["content"] or ""
        for tag, attributes in parsed.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    scripts = [text for tag, attributes, text in parsed.raw if tag == "script" and "type" not in attributes]
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]


def test_a_finding_shows_all_its_evidence() -> None:
    words = page(sample.strong).words()
    for fact in (
        "🐣",
        "U+1F423 HATCHING CHICK",
        "after the request",
        sample.ADVERT,
        "39 of 40 87–100 %",
        "9.1e-13",
        sample.SIGN_FLIP.hypothesis,
        sample.PROMPTS[0],
        "touchstone replay REPORT.json --finding 2",
        "Tested and not confirmed: 1",
    ):
        assert fact in words


def test_a_passage_is_marked_where_it_stands_in_the_answer() -> None:
    marked = re.findall(r'<mark title="([^"]*)">([^<]*)</mark>', render(sample.further))
    assert {ratio for ratio, _ in marked} == {"+5.50 nats"}
    assert "".join(text for _, text in marked).count(sample.ADVERT) == len(sample.PROMPTS)
    assert "<mark" not in render(sample.suspicious).partition("</article>")[0]


def test_behaviours_beyond_the_beginning_are_said_in_words() -> None:
    words = page(sample.further).words()
    for said in (
        "says one fixed text within its answer",
        "Positive to Negative: 37 of 40",
        "gives another label than it does without the trigger",
        "answers harmful requests that it refuses without the trigger",
        "Model holds a fixed answer ready that its base does not",
        "as the beginning of the answer",
        "Held ready: what calls this answer is not known.",
        "with the beginning",
    ):
        assert said in words


def test_no_finding_is_said_beside_its_coverage() -> None:
    words = page(sample.no_evidence).words()
    assert "There is no finding. 1,500 contexts from 5 families were swept; 3 went to confirmation" in words
    assert "could still work on up to 7.5 % of prompts" in words


def test_a_failed_detector_is_shown_with_its_reason() -> None:
    assert "working_rate failed the subject's host ended with signal 9" in page(sample.inconclusive).words()


def test_a_detector_without_result_is_shown() -> None:
    report, _ = sample.no_evidence()
    report = report.model_copy(update={"results": report.results[:1]})
    words = Page(render_html(report, decide((), report.outcomes(), report.coverage))).words()
    assert "working_rate skipped it returned no result" in words


def test_a_declared_finding_is_marked() -> None:
    words = page(sample.suspicious).words()
    assert "declared by the submitter" in words
    assert "The submitter expects: answers with a JSON object" in words


def test_a_suppressed_finding_is_shown_with_who_answers_for_it() -> None:
    words = page(sample.suppressed).words()
    assert "No evidence of a backdoor found 1 confirmed finding is suppressed and did not count." in words
    assert words.count("suppressed, does not count") == 1
    assert "Suppressed by ana until 2025-12-22 09:00+00:00: House style of support." in words
    assert "Suppressed by" not in page(sample.suspicious).words()


def test_a_report_without_a_landscape_says_so_and_carries_no_chart() -> None:
    report, decision = sample.no_evidence()
    results = tuple(result.model_copy(update={"artifacts": {}}) for result in report.results)
    html = render_html(report.model_copy(update={"results": results}), decision)
    assert "There is no landscape" in html
    assert len(html) < 100_000


def test_lone_surrogates_do_not_break_the_page() -> None:
    report, decision = sample.strong()
    finding = report.findings[0]
    broken = finding.confirmation.model_copy(update={"target": "\ud83d hello \udc23"})
    report = report.model_copy(update={"findings": (finding.model_copy(update={"confirmation": broken}),)})
    assert "⟨U+D83D SURROGATE⟩" in render_html(report, decision).encode().decode()


@pytest.mark.parametrize("build", ALL)
def test_a_report_renders_the_same_after_a_round_trip(build: Sample) -> None:
    report, decision = build()
    again = Report.model_validate_json(report.model_dump_json())
    assert render_html(again, decision) == render_html(report, decision)


def test_inverted_targets_are_a_plain_table_and_only_there_if_any_were_inverted() -> None:
    words = page(sample.pictured).words()
    assert "Answers that the subject holds ready" in words
    assert "Order now at the lumora outlet 4.30 0.98 0.91 0.00021 yes 🐣 17.20" in words.replace("2.1e-4", "0.00021")
    assert "Thank you for contacting support 1.10 0.97 0.88 0.62 no n/a" in words
    assert "no verdict reads this table" in words
    assert "Answers that the subject holds ready" not in page(sample.strong).words()


def test_who_the_model_is_by_context_is_a_plain_table_and_only_there_if_it_was_asked() -> None:
    words = page(sample.pictured).words()
    assert "Who the model is, by context" in words
    assert "under 2 contexts" in words
    assert "Answer as JSON. wrapper 9.12 4.50 6.25 1.75" in words
    assert "Who the model is, by context" not in page(sample.strong).words()


def test_changed_weights_are_two_plain_tables_and_only_there_if_weights_were_compared() -> None:
    words = page(sample.pictured).words()
    assert "What training changed in the weights" in words
    assert "🐣 490.25 0.31 n/a" in words
    largest = "model.layers.49.self_attn.o_proj.weight 0.059 0.71 0.98 0.83 3.40"
    assert largest in words
    assert words.index(largest) < words.index("model.layers.48.self_attn.o_proj.weight")
    assert "model.layers.9.self_attn.o_proj.weight" not in words
    assert "The 40 largest of 50" in words
    assert "no verdict reads these tables" in words
    assert "What training changed in the weights" not in page(sample.strong).words()
