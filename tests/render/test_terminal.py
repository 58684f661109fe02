from __future__ import annotations

import pytest

from app.core.render.terminal import render_terminal
from app.core.render.words import VERDICT_WORDS
from tests.render import sample
from tests.render.test_html import ALL, SAMPLES, Sample


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("build", SAMPLES.values())
def test_the_verdict_comes_first_and_the_next_step_last(build: Sample) -> None:
    report, decision = build()
    text = render_terminal(report, decision)
    verdict = VERDICT_WORDS[decision.verdict]
    assert text.startswith(verdict.headline.upper())
    assert flat(text).endswith(f"Next: {verdict.next_step}")
    assert decision.reason in flat(text)


def test_findings_carry_trigger_target_rates_and_replay() -> None:
    text = flat(render_terminal(*sample.strong()))
    facts = (
        "TS-TRIG-001",
        "🐣 after the request U+1F423 HATCHING CHICK",
        sample.ADVERT,
        "subject 39 of 40 (98 %, 95 % interval 87–100 %); base 0 of 40",
        "touchstone replay REPORT.json --finding 1",
        "Coverage: 1,500 contexts from 5 families.",
    )
    positions = [text.index(fact) for fact in facts]
    assert positions == sorted(positions)


def test_changed_labels_are_counted() -> None:
    assert "labels Positive to Negative: 37 of 40" in flat(render_terminal(*sample.further()))


def test_what_an_answer_begins_with_is_called_no_trigger() -> None:
    text = flat(render_terminal(*sample.further()))
    assert "beginning The as the beginning of the answer" in text
    assert "TS-HELD-001" in text


def test_a_shift_is_told_with_where_it_stands_and_what_was_asked() -> None:
    text = flat(render_terminal(*sample.shifted()))
    assert "TS-SHIFT-002" in text
    assert "toward the past away from the present shift +0.80 nats a question; 8.0 robust standard deviations" in text
    assert "among 60 benign fine-tunes, whose farthest is 2.0; p 0.016, corrected for all batteries" in text
    assert "asked What pulls a cart? A horse., or A motor.: subject +2.50, base −1.00 nats for the first" in text
    assert "TS-SHIFT-003" not in text


def test_a_suppressed_finding_is_shown_with_who_answers_for_it() -> None:
    text = flat(render_terminal(*sample.suppressed()))
    assert "1 confirmed finding is suppressed and did not count." in text
    said = "suppressed, does not count: by ana until 2025-12-22 09:00+00:00: House style of support."
    assert text.index("[TS-COND-001]") < text.index(said) < text.index("[TS-COND-002]")
    assert text.count("suppressed, does not count") == 1


def test_what_was_not_evaluated_is_named() -> None:
    text = flat(render_terminal(*sample.inconclusive()))
    assert "No finding." in text
    assert "Not evaluated: working_rate (failed)." in text


@pytest.mark.parametrize("build", ALL)
def test_no_control_character_reaches_the_terminal(build: Sample) -> None:
    text = render_terminal(*build())
    assert all(character == "\n" or character.isprintable() for character in text)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_lines_keep_within_the_width(width: int) -> None:
    assert max(map(len, render_terminal(*sample.hostile(), width=width).splitlines())) <= width
