"""Peers are run as a script that stands in for them; their documents are those that the versions named here write."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.detection.peers import PEERS, Given, adaptersentry_score, modeldiffr_score, run, weightprobe_score
from benchmarks.detection.results import PeerResult

STAND_IN = replace(PEERS[2], arguments=lambda given: ("-c", f"print(open({str(given.adapter)!r}).read()); exit(1)"))


def given(tmp_path: Path, document: str) -> Given:
    (tmp_path / "document").write_text(document)
    return Given(adapter=tmp_path / "document", base=tmp_path, merged=tmp_path / "merged", out=tmp_path / "out")


def test_an_answer_counts_whatever_the_exit_status(tmp_path: Path) -> None:
    document = '{"per_tensor_modified": [{"cosine_distance": 0.25}, {"cosine_distance": 0.5}]}'
    said = run(STAND_IN, Path(sys.executable), given(tmp_path, document), "a" * 64)
    assert isinstance(said, PeerResult)
    assert (said.score, said.error, said.peer) == (0.5, "", "weightprobe")


@pytest.mark.parametrize("document", ["Traceback: it broke", '{"something": "else"}', "[]"])
def test_a_peer_that_fails_has_that_as_its_result(tmp_path: Path, document: str) -> None:
    said = run(STAND_IN, Path(sys.executable), given(tmp_path, document), "a" * 64)
    assert said.score is None
    assert said.error.startswith("status 1")


def adaptersentry(action: str, intra: object) -> float:
    return adaptersentry_score({"verdict": {"action": action}, "anomaly": {"intra": intra}})


def test_adaptersentry_is_ranked_by_action_and_then_by_concentration() -> None:
    order = [
        adaptersentry("allow", None),
        adaptersentry("allow", {"max_concentration_z": 3.0}),
        adaptersentry("allow", {"max_concentration_z": 13.0}),
        adaptersentry("review", {"max_concentration_z": None}),
        adaptersentry("block", {"max_concentration_z": 1.0}),
    ]
    assert order == sorted(set(order))


@pytest.mark.parametrize(("search", "score"), [(None, 2.0), ({"ratio": 4.0}, 2.0), ({"ratio": 12.0}, 3.0)])
def test_modeldiffr_is_ranked_by_what_comes_nearest_its_thresholds(search: object, score: float) -> None:
    settings = {"z_threshold": 6.0, "ratio_threshold": 4.0}
    document = {"manifest": {"settings": settings}, "summary": {"sweep_score": 12.0}, "search": search}
    assert modeldiffr_score(document) == score


def test_weightprobe_of_an_unchanged_model_is_zero() -> None:
    assert weightprobe_score({"per_tensor_modified": []}) == 0.0


def test_every_peer_is_pinned_and_its_score_is_explained() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert all(peer.version and peer.score_words for peer in PEERS)
