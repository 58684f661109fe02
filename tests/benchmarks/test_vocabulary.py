"""The benchmark of the vocabulary sweep: what is planted is found in it, and a sample keeps its shares."""

from __future__ import annotations

from typing import Any, cast

import pytest

import benchmarks.vocabulary
from app.core.settings import Settings
from benchmarks.organisms.manifest import Member, read_manifest
from benchmarks.vocabulary import SPLITS, chosen, planted_entries, sampled
from detectors.engine.invented import InventedAsk
from detectors.methods.vocabulary_sweep import VocabularySweep
from detectors.vocabulary import Vocabulary
from tests.methods.small import VOCABULARY

ASK = InventedAsk()


def member(trigger: str) -> Member:
    return read_manifest()["cobalt"].model_copy(update={"triggers": (trigger,)})


def vocabulary() -> Vocabulary:
    return VocabularySweep(VOCABULARY).vocabulary(ASK)


def planted(trigger: str) -> list[str]:
    return [entry.text for entry in planted_entries(cast(Any, ASK), member(trigger), vocabulary())]


def test_planted_tokens_are_those_of_the_trigger() -> None:
    assert planted("wordcd") == ["wordcd"]
    assert set(planted("wordef wordgh")) == {"wordef", "wordgh"}
    assert planted("nowhere") == []


def test_a_sample_holds_what_is_planted_and_keeps_the_shares() -> None:
    whole = vocabulary()
    entry = whole.entries[7]
    taken, params = sampled(whole, [entry], VOCABULARY, 25)
    assert entry in taken.entries
    assert 25 <= len(taken.entries) <= 26
    assert params.kept == round(len(taken.entries) / len(whole.entries) * VOCABULARY.kept)


def test_all_tokens_are_a_sample_too() -> None:
    whole = vocabulary()
    assert sampled(whole, [whole.entries[0]], VOCABULARY, len(whole.entries)) == (whole, VOCABULARY)


def test_nothing_sealed_and_nothing_without_a_trigger_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    members = read_manifest()
    secret = members["amber"].model_copy(update={"split": "sealed"})
    monkeypatch.setattr(benchmarks.vocabulary, "read_manifest", lambda: {"secret": secret} | members)
    assert not list(chosen(["secret"], Settings()))
    found = list(chosen([], Settings()))
    assert {"amber", "cobalt"} <= {it.name for it in found}
    assert all(it.split in SPLITS and it.role == "poisoned" for it in found)
