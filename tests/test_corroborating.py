"""What the confirmers that corroborate share."""

from __future__ import annotations

import pytest

from detectors.contexts.context import Context
from detectors.corroborating import table_of_tests, to_corroborate
from detectors.findings import Evidence, Null
from detectors.prompts.sets import first_prompts, prompts
from detectors.stats import holm
from tests.methods.small import candidate


def texts(scores: dict[str, float], *nominated: str, at_most: int = 3) -> list[str]:
    given = [candidate(text, source="trigger_sweep", score=99.0) for text in nominated]
    given += [candidate(text, source="working_rate", score=score) for text, score in scores.items()]
    return [found.context.text for found in to_corroborate(given, at_most)]


def test_what_was_sent_to_confirmation_comes_first_by_effect() -> None:
    sent = {"aa": 0.4, "bb": 0.9, "cc": 0.5, "dd": 0.3}
    assert texts(sent, "ee") == ["bb", "cc", "aa"]
    assert texts(sent, "ee", at_most=1) == ["bb"]
    assert texts({"aa": 0.4}, "ee", "ff") == ["aa"]


def test_where_nothing_was_sent_the_first_nominated_is_shown() -> None:
    assert texts({}, "ee", "ff") == ["ee"]
    assert texts({}) == []


def test_first_prompts_are_those_of_the_confirm_set() -> None:
    assert first_prompts("confirm", "inputs", 5) == prompts("confirm")[:5]
    with pytest.raises(ValueError, match="`inputs` must be at most 64, got 65"):
        first_prompts("confirm", "inputs", 65)


def test_the_table_corrects_what_was_tested_and_nothing_else() -> None:
    null = Null(kind="sign_flip", size=8, hypothesis="it does nothing")
    context = Context(text="cf", family="short_string", position="start")
    p_values = [0.02, None, 0.01, 0.5, None]
    evidence = [
        Evidence(
            statistic="strip.entropy",
            value=at,
            unit="nats",
            p_value=p_value,
            null=null if p_value else None,
            context=context,
        )
        for at, p_value in enumerate(p_values)
    ]
    table = table_of_tests(evidence)
    assert table["columns"] == ["text", "position", "statistic", "effect", "p_value", "p_holm"]
    adjusted = holm([0.02, 0.01, 0.5])
    assert [row[5] for row in table["rows"]] == [adjusted[0], None, adjusted[1], adjusted[2], None]
    assert [row[:5] for row in table["rows"]] == [
        ["cf", "start", "strip.entropy", float(at), p_value] for at, p_value in enumerate(p_values)
    ]
