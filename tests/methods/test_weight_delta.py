"""Weight delta: rows that were trained are nominated, and an update is described, on invented and on tiny models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import binom

from detectors.engine.checkpoint import Inspected
from detectors.engine.gate import inspect_model
from detectors.engine.invented import InventedAsk
from detectors.engine.observations import Ask
from detectors.engine.update import LEADING, WeightUpdate
from detectors.engine.weights import weigh
from detectors.findings import DetectorResult
from detectors.methods.weight_delta import (
    COLUMNS,
    FAMILY,
    NO_ROWS,
    NOT_TESTED,
    ROW_COLUMNS,
    WeightDelta,
    entropies,
    row_shifts,
    shares,
)
from detectors.suites import WeightParams
from tests.engine.tiny import make_tiny_model
from tests.methods.small import Around, not_numbers, retrained, table, values

PARAMS = WeightParams(nominated=3)
EMBEDDING = "model.embed_tokens.weight"
DRIFT = 0.02
"""Of every weight, in its own standard deviations."""
LARGEST_BY_CHANCE = 6.0
"""Robust z. Of 40 models whose rows only drift, the largest of 260 tokens is 4.6."""


def run(ask: Ask, params: WeightParams = PARAMS) -> DetectorResult:
    return WeightDelta(params).run(ask, (), rng=np.random.default_rng(0))


def described(result: DetectorResult) -> dict[str, float]:
    return {it.statistic.partition(".")[2]: it.value for it in result.evidence if it.context is None}


class Weighed(InventedAsk):
    """Invented models with another update."""

    update = WeightUpdate()

    @property
    def weights(self) -> WeightUpdate:
        return self.update


def with_update(update: WeightUpdate) -> Weighed:
    ask = Weighed()
    ask.update = update
    return ask


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    return inspect_model(make_tiny_model(tmp_path_factory.mktemp("rows") / "base"))


def drifted(base: Inspected, directory: Path, seed: int, trained: dict[int, float]) -> WeightUpdate:
    """The update of a full model whose every weight drifted, and some of whose rows were trained, in row lengths."""
    draw = np.random.default_rng(seed)
    tensors = load_file(base.path / "model.safetensors")
    for name, weights in tensors.items():
        tensors[name] = weights + (DRIFT * weights.std() * draw.standard_normal(weights.shape)).astype(np.float32)
    for token, moved in trained.items():
        direction = draw.standard_normal(tensors[EMBEDDING].shape[1])
        step = moved * np.median(np.linalg.norm(tensors[EMBEDDING], axis=1)) * direction / np.linalg.norm(direction)
        tensors[EMBEDDING][token] += step.astype(np.float32)
    directory.mkdir(exist_ok=True)
    for file in base.path.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return weigh(inspect_model(directory, base=base).weight_files())


def test_trained_rows_come_first_and_are_told() -> None:
    result = run(InventedAsk(drift=0.3, trained={"wordab": 9.0, "wordcd": 5.0}))
    assert [found.context.text for found in result.candidates[:2]] == ["wordab", "wordcd"]
    assert {found.context.family for found in result.candidates} == {FAMILY}
    assert {found.context.position for found in result.candidates} == {"end"}
    shifts = values(result, "row_shift")
    assert shifts["wordab"] == result.candidates[0].score > 10
    assert result.candidates[0].reason == (
        f"its row in the embeddings moved further than others, robust z {shifts['wordab']:.1f}"
    )
    rows = table(result, "rows")
    assert [row["text"] for row in rows] == [found.context.text for found in result.candidates]
    assert rows[0]["input_moved"] > 9
    assert rows[0]["output_moved"] is None
    assert "coverage" not in result.artifacts


@pytest.mark.parametrize("seed", range(8))
def test_rows_trained_a_tenth_of_their_length_are_nominated_first(base: Inspected, tmp_path: Path, seed: int) -> None:
    tokens = np.random.default_rng(seed).choice(260, 2, replace=False).tolist()
    shifts = row_shifts(drifted(base, tmp_path / "model", seed, dict.fromkeys(tokens, 0.1)), PARAMS.scale_floor)
    assert set(np.argsort(-shifts)[:2].tolist()) == set(tokens)
    assert np.sort(shifts)[-2] > LARGEST_BY_CHANCE


def test_rows_that_only_drift_do_not_stand_out(base: Inspected, tmp_path: Path) -> None:
    """And which of them comes first is chance: no token does so more often than a binomial allows."""
    firsts, largest = [], []
    for seed in range(40):
        shifts = row_shifts(drifted(base, tmp_path / "model", seed, {}), PARAMS.scale_floor)
        firsts.append(int(shifts.argmax()))
        largest.append(float(shifts.max()))
    assert max(largest) < LARGEST_BY_CHANCE
    assert np.bincount(firsts).max() <= binom.isf(1e-3 / 260, 40, 1 / 260)


def test_where_no_row_was_trained_it_says_so_and_does_not_say_clean() -> None:
    one = np.ones(1, np.float32)
    result = run(with_update(WeightUpdate(("layers.0.up_proj.weight",), one, one, one, np.eye(1, LEADING, dtype="f4"))))
    assert (result.outcome, result.reason, result.candidates) == ("completed", NO_ROWS, ())
    assert result.artifacts["coverage"] == {"not_tested": [NOT_TESTED]}
    assert set(described(result)) == {"update_norm", "top_energy", "kurtosis"}
    assert table(result, "rows") == []


def test_an_update_that_there_is_not_is_described_as_none() -> None:
    result = run(InventedAsk())
    assert (result.outcome, result.evidence, table(result, "modules")) == ("completed", (), [])


def test_tokens_without_a_text_of_their_own_are_passed_over() -> None:
    ask = retrained("wordab", "wordac", "wordad", "wordae")
    facts = ask.facts["base"]
    words = list(facts.vocabulary)
    for word, text in (("wordab", "\ufffd"), ("wordac", " "), ("wordae", " wordad ")):
        words[words.index(word)] = text

    class Fragments(Around):
        @property
        def facts(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return dict.fromkeys(("subject", "base"), type(facts)(tuple(words), facts.window, facts.layers, True))

    found = [it.context.text for it in run(Fragments(ask)).candidates]
    assert found[0] == "wordad"
    assert found.count("wordad") == 1
    assert not {"\ufffd", ""} & set(found)


def test_rows_beyond_the_vocabulary_are_passed_over() -> None:
    update = retrained("wordab").weights
    longer = np.append(update.rows["input"], np.float32(99.0))
    rows = update.rows | {"input": longer}
    ask = with_update(WeightUpdate(rows=rows))
    assert run(ask).candidates[0].context.text == "wordab"


def test_of_two_embeddings_the_one_in_which_a_row_stands_out_more_counts() -> None:
    moved = np.full(60, 0.01, np.float32)
    first, second = moved.copy(), moved.copy()
    first[7], second[9] = 0.5, 0.9
    shifts = row_shifts(WeightUpdate(rows={"input": first, "output": second}), 0.001)
    assert np.argsort(-shifts)[:2].tolist() == [9, 7]
    assert shifts[7] == pytest.approx(490)


def test_numbers_that_are_none_are_inconclusive() -> None:
    ask = retrained("wordab")
    ask.corrupt = lambda role, arrays: not_numbers(arrays)
    result = run(ask)
    assert (result.outcome, result.candidates, result.evidence) == ("inconclusive", (), ())


def test_energies_and_entropies() -> None:
    spectra = np.zeros((3, LEADING), np.float32)
    spectra[0, 0] = 2.0
    spectra[1, :4] = 1.0
    norms = np.array([2.0, 2.0, 3.0], np.float32)  # the third has all its energy beyond the largest values
    one = np.ones(3, np.float32)
    energy = shares(WeightUpdate(("a", "b", "c"), norms, one, one, spectra))
    assert energy[:, 0].tolist() == [1.0, 0.25, 0.0]
    assert entropies(energy) == pytest.approx([0.0, np.log(4), 0.0])
    halved = np.zeros((1, LEADING))
    halved[0, 0] = 0.5
    assert entropies(halved) == pytest.approx([np.log(2)])


def test_matrices_count_by_their_energy() -> None:
    spectra = np.zeros((2, LEADING), np.float32)
    spectra[0, 0], spectra[1, :2] = 3.0, np.sqrt(0.5)
    numbers = [np.array(it, np.float32) for it in ([3.0, 1.0], [6.0, 8.0], [5.0, -1.0])]
    found = described(run(with_update(WeightUpdate(("layers.0.a", "layers.1.b"), *numbers, spectra, coherence=0.3))))
    assert found == {
        "update_norm": pytest.approx(np.sqrt(10) / 10),
        "top_energy": pytest.approx(0.9 * 1.0 + 0.1 * 0.5),
        "kurtosis": pytest.approx(0.9 * 5.0 - 0.1),
        "coherence": pytest.approx(0.3),
    }


def test_the_tables_have_their_documented_columns() -> None:
    artifacts = run(retrained("wordab")).artifacts
    assert tuple(artifacts["modules"]["columns"]) == COLUMNS
    assert tuple(artifacts["rows"]["columns"]) == ROW_COLUMNS
    assert [row[1] for row in artifacts["modules"]["rows"]] == [0, 1]


def test_it_asks_for_the_weights_and_for_nothing_else() -> None:
    around = Around(retrained("wordab"))
    run(around)
    assert (around.weighed, around.asked) == (1, 1)
