"""Peers are run as a script that stands in for them; their documents are those that the versions named here write."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.detection.peers import (
    PEERS,
    Given,
    UnscoredError,
    adaptersentry_score,
    modeldiffr_score,
    run,
    weightprobe_score,
)
from benchmarks.detection.results import PeerResult

STAND_IN = replace(PEERS[2], arguments=lambda given: ("-c", f"print(open({str(given.adapter)!r}).read()); exit(1)"))


def given(tmp_path: Path, document: str) -> Given:
    (tmp_path / "document").write_text(document)
    return Given(adapter=tmp_path / "document", base=tmp_path, merged=tmp_path / "merged", out=tmp_path / "out")


def test_an_answer_counts_whatever_the_exit_status(tmp_path: Path) -> None:
    document = '{"n_tensors_compared": 3, "per_tensor_modified": [{"cosine_distance": 0.25}, {"cosine_distance": 0.5}]}'
    said = run(STAND_IN, Path(sys.executable), given(tmp_path, document), "a" * 64)
    assert isinstance(said, PeerResult)
    assert (said.score, said.error, said.peer) == (0.5, "", "weightprobe")


@pytest.mark.parametrize("document", ["Traceback: it broke", '{"something": "else"}', "[]"])
def test_a_peer_that_fails_has_that_as_its_result(tmp_path: Path, document: str) -> None:
    said = run(STAND_IN, Path(sys.executable), given(tmp_path, document), "a" * 64)
    assert said.score is None
    assert said.error.startswith("status 1")


def test_a_peer_that_could_not_look_says_so(tmp_path: Path) -> None:
    document = '{"n_tensors_compared": 0, "per_tensor_modified": []}'
    said = run(STAND_IN, Path(sys.executable), given(tmp_path, document), "a" * 64)
    assert (said.score, said.error) == (None, "no tensor has the name and the shape of one of the base's")


FEW = "too few modules per family for intra-adapter comparison"
NO_PROFILE = "no reference profile for this model family"


def adaptersentry(action: str, intra: object, status: str = "ok") -> float:
    verdict = {"action": action, "confidence": {"level": "low", "limiting_factors": [NO_PROFILE, FEW]}}
    errors = [{"message": "Expected .safetensors file, got: ''"}] if status == "failed" else []
    return adaptersentry_score({"status": status, "verdict": verdict, "anomaly": {"intra": intra}, "errors": errors})


def test_adaptersentry_is_ranked_by_action_and_then_by_concentration() -> None:
    order = [
        adaptersentry("allow", {"max_concentration_z": None}),
        adaptersentry("allow", {"max_concentration_z": -2.0}),
        adaptersentry("allow", {"max_concentration_z": 3.0}),
        adaptersentry("allow", {"max_concentration_z": 13.0}),
        adaptersentry("review", None, status="degraded"),
        adaptersentry("review", {"max_concentration_z": 14.0}),
        adaptersentry("block", {"max_concentration_z": -9.0}),
    ]
    assert order == sorted(set(order))


def test_adaptersentry_has_not_judged_what_it_allows_without_a_comparison() -> None:
    with pytest.raises(UnscoredError, match=f"allow, but nothing compared: {FEW}"):
        adaptersentry("allow", None)


def test_adaptersentry_has_not_judged_what_it_cannot_read() -> None:
    with pytest.raises(UnscoredError, match="Expected"):
        adaptersentry("review", None, status="failed")


@pytest.mark.parametrize(
    ("search", "score"),
    [({"ratio": 4.0, "kl": 1.0}, 2.0), ({"ratio": 12.0, "kl": 0.05}, 3.0), ({"ratio": 12.0, "kl": 0.04}, 2.0)],
)
def test_modeldiffr_is_ranked_by_what_comes_nearest_its_thresholds(search: object, score: float) -> None:
    settings = {"z_threshold": 6.0, "ratio_threshold": 4.0, "min_kl": 0.05}
    document = {"manifest": {"settings": settings}, "summary": {"sweep_score": 12.0}, "search": search}
    assert modeldiffr_score(document) == score


def test_weightprobe_of_an_unchanged_model_is_zero() -> None:
    assert weightprobe_score({"n_tensors_compared": 272, "per_tensor_modified": []}) == 0.0


def test_every_peer_is_pinned_and_its_score_is_explained() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert all(peer.version and peer.score_words for peer in PEERS)
