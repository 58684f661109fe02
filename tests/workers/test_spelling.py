"""Tokens that the subject added: the base reads them in its own tokens, and they are swept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from app.core.scanning import run_job
from detectors.engine.observations import NextToken, Score, Trace
from tests.engine.tiny import make_tiny_model
from tests.workers.conftest import Workshop, cache_at, read_report
from workers.spelling import Spelling, added_tokens

SPELLING = Spelling({10: (1, 2, 3), 11: (4,)})


def test_added_tokens_are_those_beyond_the_shared_ones() -> None:
    assert added_tokens([(1, 12, 3), (11, 12), ()], n_shared=11) == [11, 12]


def test_a_sequence_is_spelled_out() -> None:
    assert SPELLING.tokens((7, 10, 8, 11)) == (7, 1, 2, 3, 8, 4)
    assert SPELLING.read((7, 10), NextToken()) == NextToken()


def test_a_score_of_an_added_token_is_the_sum_over_its_pieces() -> None:
    tokens = (7, 8, 10, 9, 11)
    assert SPELLING.read(tokens, Score(3)) == Score(5)
    folded = SPELLING.fold(tokens, Score(3), {"logp": np.array([-1, -2, -3, -4, -5], np.float32)})
    assert folded["logp"].tolist() == [-6, -4, -5]
    assert folded["logp"].dtype == np.float32


def test_a_trace_of_an_added_token_is_read_before_its_first_piece() -> None:
    tokens = (7, 8, 10, 9, 11)
    assert SPELLING.read(tokens, Trace(3)) == Trace(5)
    arrays = {"entropy": np.arange(5, dtype=np.float32), "ids": np.arange(10, dtype=np.int32).reshape(5, 2)}
    folded = SPELLING.fold(tokens, Trace(3), arrays)
    assert folded["entropy"].tolist() == [0, 3, 4]
    assert folded["ids"].tolist() == [[0, 1], [6, 7], [8, 9]]


@given(st.lists(st.integers(0, 12), min_size=2, max_size=12), st.data())
def test_folding_keeps_the_length_and_the_sum(tokens: list[int], data: st.DataObject) -> None:
    read = Score(data.draw(st.integers(1, len(tokens) - 1)))
    longer = SPELLING.read(tuple(tokens), read)
    scores = -np.arange(1, longer.n_tokens + 1, dtype=np.float32)
    folded = SPELLING.fold(tuple(tokens), read, {"logp": scores})["logp"]
    assert len(folded) == read.n_tokens
    assert folded.sum() == scores.sum()


def test_a_subject_with_an_added_token_is_scanned_and_the_token_swept(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "tiny-base")
    subject = make_tiny_model(tmp_path / "subject", vocab=261, extra_tokens=("zqx",))
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    network.resize_token_embeddings(261)
    network.save_pretrained(subject)
    shop = Workshop(base, subject, tmp_path / "cache", tmp_path / "out")
    with cache_at(shop.cache):
        run_job(shop.job("scan"))
    report = read_report(shop.out)
    assert set(report.outcomes().values()) == {"completed"}
    swept = {family.family: family.swept for family in report.coverage.families}
    assert swept["added_token"] == 1
