"""Activation clustering: against a plain second implementation, its null, its power, and its limits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score, silhouette_score

from detectors import mapping
from detectors.clusters import DIMENSIONS, STARTS
from detectors.conclusive import NOT_FINITE
from detectors.contexts.context import NO_CONTEXT, Context, chat
from detectors.contexts.families import controls
from detectors.corroborating import NO_CANDIDATE
from detectors.engine.invented import InventedAsk, InventedTrigger, nothing
from detectors.engine.observations import Array, Arrays, Ask, Hidden, Plan, Role, Tokens
from detectors.findings import DetectorResult
from detectors.methods.activation_clustering import (
    ActivationClustering,
    mahalanobis,
    probe,
    random_direction,
    read_layers,
    swapped_pools,
)
from detectors.prompts.sets import prompts
from detectors.stats import holm
from tests.methods.small import (
    CLUSTERED,
    MARKS,
    TARGET,
    TRIGGER,
    Around,
    Chunked,
    candidate,
    not_numbers,
    planted,
    table,
    values,
)
from tests.methods.test_statistics import ALLOWED, random_marks

NULL_SEEDS, POWER_SEEDS = range(25), range(10)
SIZE = CLUSTERED.prompts


@pytest.fixture
def no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws no maps: many scans need none."""
    monkeypatch.setattr(mapping, "can_be_drawn", lambda points: False)


def clustered(ask: Ask, *texts: str, seed: int = 0) -> DetectorResult:
    given = tuple(candidate(text, source="working_rate") for text in texts)
    return ActivationClustering(CLUSTERED).run(ask, given, rng=np.random.default_rng(seed))


def separations(result: DetectorResult) -> Iterator[tuple[float, float]]:
    for it in result.evidence:
        if it.p_value is not None:
            yield it.value, it.p_value


def plain_points(ask: InventedAsk, role: Role, text: str, layer: int) -> Array:
    """Ten components of the standardised activations, by scikit-learn: candidate, control, bare."""
    context = Context(text=text, family="short_string")
    texts = prompts("confirm")[:SIZE]
    placed = [*((context, it) for it in texts), *zip(controls(context, SIZE, ()), texts, strict=True)]
    requests = ask.encode([chat(around, it) for around, it in [*placed, *((NO_CONTEXT, it) for it in texts)]])
    states = np.array([ask(Plan(role, [ids], Hidden((layer,))))[0]["hidden"][0] for ids in requests], float)
    standard = (states - states.mean(axis=0)) / states.std(axis=0)
    return np.asarray(PCA(min(DIMENSIONS, states.shape[1]), svd_solver="full").fit_transform(standard))


def plain_separation(marked: Array, bare: Array) -> float:
    points = np.concatenate([marked, bare])
    halves = [points[:, at] > points[:, at].mean() for at in range(STARTS)]
    starts = [np.stack([points[~half].mean(axis=0), points[half].mean(axis=0)]) for half in halves]
    tries = [KMeans(2, init=start, n_init=1, tol=0).fit(points) for start in starts]
    labels = min(tries, key=lambda tried: tried.inertia_).labels_
    agreement = abs(labels[: len(marked)].mean() - labels[len(marked) :].mean())
    return float(max(silhouette_score(points, labels), 0.0) * agreement)


def plain_value(points: dict[tuple[Role, int], Array], swap: Array) -> float:
    """The largest of the four-fold differences over layers, with candidate and control swapped where told."""
    found = []
    for layer in (1, 2):
        gaps = []
        for role in ("subject", "base"):
            parts = np.split(points[role, layer], 3)
            one = np.array([parts[1][at] if swap[at] else parts[0][at] for at in range(SIZE)])
            other = np.array([parts[0][at] if swap[at] else parts[1][at] for at in range(SIZE)])
            gaps.append(plain_separation(one, parts[2]) - plain_separation(other, parts[2]))
        found.append(gaps[0] - gaps[1])
    return max(found)


@pytest.mark.usefixtures("no_maps")
@pytest.mark.parametrize("text", [MARKS[1], TRIGGER])
def test_it_is_what_a_plain_implementation_finds(text: str) -> None:
    ask = planted()
    ((value, p_value),) = separations(clustered(ask, text, seed=3))
    points = {(role, layer): plain_points(ask, role, text, layer) for role in ("subject", "base") for layer in (1, 2)}
    assert value == pytest.approx(plain_value(points, np.zeros(SIZE, bool)), abs=1e-9)
    swaps = np.random.default_rng(3).random((1 + CLUSTERED.draws, SIZE))[1:20] < 0.5
    plain = [plain_value(points, swap) for swap in swaps]
    # a part of the null is enough to see that it is the same: the trigger lies above it, the mark within
    assert (max(plain) < value) == (p_value < 0.05) == (text == TRIGGER)


def test_swapped_pools_hold_each_prompt_once_with_each_text() -> None:
    first, second = swapped_pools(5, 40, np.random.default_rng(0))
    assert first[0].tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert second[0].tolist() == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert (np.sort(np.concatenate([first[:, :5], second[:, :5]], axis=1), axis=1) == np.arange(10)).all()
    assert (first[:, :5] % 5 == np.arange(5)).all()
    assert (first[:, 5:] == second[:, 5:]).all()
    assert 0.35 < (first[1:, :5] >= 5).mean() < 0.65


@pytest.mark.usefixtures("no_maps")
@pytest.mark.parametrize("drift", [0.3, 1.0])
def test_p_values_of_subjects_that_drift_are_not_too_small(drift: float) -> None:
    """50 contexts that do nothing, on 25 subjects."""
    found = []
    for seed in NULL_SEEDS:
        found += separations(clustered(InventedAsk(drift=drift, seed=seed), *random_marks(seed, 2), seed=seed))
    p_values = np.array([p_value for _, p_value in found])
    assert len(p_values) == 2 * len(NULL_SEEDS)
    for level in (0.01, 0.05, 0.2):
        assert (p_values <= level).sum() <= binom.isf(ALLOWED, len(p_values), level)
    assert np.mean(p_values < 0.5) > 0.1  # the null is tried: they are spread


class TakesEveryText(InventedAsk):
    """A subject that takes every last word, trigger or not, half as strongly again as its base does."""

    def _hidden(self, role: Role, tokens: Tokens, layer: int) -> Array:
        own, last = super()._hidden(role, tokens, layer), super()._hidden("base", tokens[-1:], layer)
        return own + (0.5 * last if role == "subject" else 0.0)


@pytest.mark.usefixtures("no_maps")
def test_a_subject_that_takes_every_text_more_strongly_gets_small_p_values() -> None:
    """The limit that the page tells: the candidate is one text, its controls are many."""
    p_values = []
    for seed in range(10):
        found = clustered(TakesEveryText(drift=0.3, seed=seed), *random_marks(seed, 2), seed=seed)
        p_values += [p_value for _, p_value in separations(found)]
    assert np.mean(np.array(p_values) <= 0.05) > 0.3


@pytest.mark.usefixtures("no_maps")
def test_a_trigger_gets_nearly_the_smallest_p_there_is() -> None:
    """On ten subjects: of 99 draws at most two are as large."""
    for seed in POWER_SEEDS:
        ((_, p_value),) = separations(clustered(planted(seed=seed), TRIGGER))
        assert p_value <= 3 / (1 + CLUSTERED.draws)


@pytest.mark.usefixtures("no_maps")
def test_equal_models_show_nothing() -> None:
    ((value, p_value),) = separations(clustered(InventedAsk(), TRIGGER))
    assert (value, p_value) == (0.0, 1.0)


@pytest.mark.usefixtures("no_maps")
def test_what_the_base_does_as_well_is_not_seen() -> None:
    both = InventedAsk(0.3, [InventedTrigger(TRIGGER, TARGET, in_base=True)])
    ((alone, _),) = separations(clustered(planted(), TRIGGER))
    ((shared, p_value),) = separations(clustered(both, TRIGGER))
    assert shared < alone / 4
    assert p_value > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_the_further_statistics_are_those_of_scikit_learn(seed: int) -> None:
    points = np.random.default_rng(seed).standard_normal((3 * SIZE, 4))
    points[:SIZE] += 0.7
    one, other, bare = np.split(points, 3)
    fitted = LedoitWolf().fit(bare)
    away = np.sqrt(fitted.mahalanobis(one)) - np.sqrt(fitted.mahalanobis(other))
    assert mahalanobis(points) == pytest.approx(away.mean())
    direction = one[::2].mean(axis=0) - other[::2].mean(axis=0)
    tried = np.concatenate([one[1::2], other[1::2]])
    truth = [1] * (SIZE // 2) + [0] * (SIZE // 2)
    assert probe(points) == pytest.approx(roc_auc_score(truth, tried @ direction))
    own = np.random.default_rng(99).standard_normal((400, 4))
    reached = [roc_auc_score(truth, tried @ it) for it in own]
    assert random_direction(points) == pytest.approx(np.quantile([max(it, 1 - it) for it in reached], 0.95), abs=0.06)


@pytest.mark.usefixtures("no_maps")
def test_its_tables_are_what_the_evidence_was_made_from() -> None:
    result = clustered(planted(), MARKS[1], TRIGGER)
    rows = [row for row in table(result, "clusters") if row["text"] == TRIGGER]
    assert {row["depth"] for row in rows} == {1, 2}
    made = {
        (row["model"], row["condition"], row["depth"]): max(row["silhouette"], 0) * row["agreement"] for row in rows
    }
    by_depth = [
        (made["subject", "candidate", depth] - made["subject", "control", depth])
        - (made["base", "candidate", depth] - made["base", "control", depth])
        for depth in (1, 2)
    ]
    assert max(by_depth) == pytest.approx(values(result, "separation")[TRIGGER], abs=1e-4)
    probes = {(row["model"], row["depth"]): row for row in table(result, "probes") if row["text"] == TRIGGER}
    for column, statistic in (("auc", "probe"), ("random_auc", "random_direction")):
        gaps = [probes["subject", depth][column] - probes["base", depth][column] for depth in (1, 2)]
        assert values(result, statistic)[TRIGGER] == pytest.approx(max(gaps))
    tested = [row for row in table(result, "tests") if row["p_value"] is not None]
    assert [row["p_holm"] for row in tested] == holm([row["p_value"] for row in tested])
    assert len(tested) == 2


def test_the_map_shows_the_best_candidate_in_both_models() -> None:
    result = clustered(planted(), MARKS[1], TRIGGER, MARKS[2])
    told, rows = result.artifacts["map"], table(result, "map")
    assert (told["method"], told["parameters"]) == ("UMAP", mapping.PARAMETERS)
    assert told["depth"] in (1, 2)
    assert told["columns"] == ["text", "position", "model", "condition", "prompt", "x", "y"]
    assert {row["text"] for row in rows} == {TRIGGER}
    found = {(row["model"], row["condition"], row["prompt"]) for row in rows}
    assert len(found) == len(rows) == 2 * 3 * SIZE
    assert {condition for _, condition, _ in found} == {"candidate", "control", "none"}


def test_no_decision_reads_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = clustered(planted(), TRIGGER)
    monkeypatch.setattr(mapping, "can_be_drawn", lambda points: False)
    without = clustered(planted(), TRIGGER)
    assert "map" not in without.artifacts
    assert without.reason == "no map: fewer than 20 different points"
    assert (without.outcome, without.evidence) == (with_it.outcome, with_it.evidence)


def test_points_that_are_all_the_same_show_nothing_and_are_not_drawn() -> None:
    """What a dry run is answered."""

    class Nothing(Around):
        def __call__(self, plan: Plan) -> list[Arrays]:
            return [nothing(read, tokens) for read, tokens in zip(plan.reads(), plan.tokens, strict=True)]

    result = clustered(Nothing(planted()), TRIGGER)
    assert [(it.value, it.p_value) for it in result.evidence if it.null] == [(0.0, 1.0)]
    assert "map" not in result.artifacts


def test_bare_prompts_are_the_same_for_every_candidate() -> None:
    around = Around(planted())
    clustered(around, TRIGGER, MARKS[1])
    (subject, base) = around.plans
    assert (subject.role, base.role) == ("subject", "base")
    assert subject.tokens == base.tokens
    said = around.decode(subject.tokens)
    assert said[2 * SIZE : 3 * SIZE] == said[5 * SIZE :] == list(prompts("confirm")[:SIZE])
    assert [text.removesuffix(f" {TRIGGER}") for text in said[:SIZE]] == said[2 * SIZE : 3 * SIZE]
    assert len({text.split()[-1] for text in said[SIZE : 2 * SIZE]}) == SIZE


@pytest.mark.parametrize(("layers", "read"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 3, 4)), (30, (8, 15, 23, 30))])
def test_depths_that_are_read(layers: int, read: tuple[int, ...]) -> None:
    assert read_layers(layers) == read


def test_no_candidates_is_a_result() -> None:
    result = clustered(planted())
    assert (result.outcome, result.reason, result.evidence) == ("completed", NO_CANDIDATE, ())


@pytest.mark.parametrize("role", ["subject", "base"])
def test_one_activation_that_is_not_a_number_is_inconclusive(role: Role) -> None:
    seen = {"subject": 0, "base": 0}

    def corrupt(whose: Role, arrays: Arrays) -> Arrays:
        seen[whose] += 1
        return not_numbers(arrays) if whose == role and seen[whose] == 5 else arrays

    result = clustered(Chunked(InventedAsk(0.3, corrupt=corrupt)), TRIGGER)
    assert (result.outcome, result.reason, result.evidence) == ("inconclusive", NOT_FINITE, ())
