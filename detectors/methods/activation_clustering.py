"""Activation clustering: do prompts with a candidate lie apart in the subject's activations, and not in the base's?

Chen et al. (2018, arXiv:1811.03728): reduce the activations of clean and poisoned inputs, part them by
2-means, and judge by silhouette and relative size whether one part is poison. (Not Neural Cleanse, which is often
cited for it.) There the cluster itself is the finding, and 2-means always finds one.

Where ours differs: any text that is put into a prompt makes a cluster, in every model. So each prompt is read three
times, with the candidate (A), with a matched control context (C) and bare (K), in both models, and

    separation = silhouette x |2 x balanced agreement of clusters and texts - 1|
    value = (separation of A from K - separation of C from K), subject minus base, the largest over depths

The null swaps candidate and control on random prompts, in both models at once, and takes the maximum over depths in
every draw; Holm (1979) over the candidates. Beside it stand a Mahalanobis distance and a difference-of-means probe with
random directions. The map is a picture. It cannot see what is not there yet at the last token of the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.covariance import ledoit_wolf

from detectors import mapping
from detectors.answering import EXCHANGEABLE, matched
from detectors.catalog import ACTIVATION_CLUSTERING, DetectorSpec
from detectors.clusters import Clusters, cluster, principal_components
from detectors.conclusive import NotFinite, conclusive
from detectors.contexts.context import NO_CONTEXT, Context, chat
from detectors.corroborating import (
    NO_CANDIDATE,
    table_of_tests,
    to_corroborate,
)
from detectors.engine.observations import ROLES, Array, Ask, Hidden, Plan, Role, Tokens
from detectors.findings import Candidate, DetectorResult, Evidence, Null, Outcome
from detectors.prompts.sets import first_prompts
from detectors.stats import permutation_p
from detectors.suites import ClusteringParams

CONDITIONS = ("candidate", "control", "none")
DEPTHS = (0.25, 0.5, 0.75, 1.0)
"""Where the residual stream is read, as shares of the layers."""
DIRECTIONS = 500
DIRECTION_SEED = 20260101
QUANTILE = 0.95
"""Of the AUC of random directions: how well a probe does that knows nothing."""
ROUNDING = 1e-12
"""Draws that are the observed arrangement in another order count as equal to it."""


@dataclass(frozen=True)
class _Layer:
    """One layer of one model under one candidate.

    Attributes:
        coordinates: [3 x prompt, component]: with the candidate, with the control, bare.
        candidate, control: 2-means on each together with the bare prompts, in every draw.
        mahalanobis, probe, random_direction: see the functions of these names.
    """

    coordinates: Array
    candidate: Clusters
    control: Clusters
    mahalanobis: float
    probe: float
    random_direction: float

    @classmethod
    def of(cls, states: Array, pools: tuple[Array, Array]) -> Self:
        """What is found in residual streams [3 x prompt, d_model]."""
        coordinates = principal_components(states)
        candidate, control = (cluster(coordinates, pool) for pool in pools)
        auc, random_auc = probe(coordinates), random_direction(coordinates)
        return cls(coordinates, candidate, control, mahalanobis(coordinates), auc, random_auc)

    @property
    def separation(self) -> Array:
        """Candidate minus control: [draw]."""
        return self.candidate.separation - self.control.separation


@dataclass(frozen=True)
class _Tested:
    """A candidate with what was found at each of `depths`, in both models."""

    context: Context
    depths: Tokens
    layers: dict[Role, list[_Layer]]

    def shift(self, name: str) -> Array:
        """An attribute of the layers, subject minus base: [layer, ...]."""
        subject, base = (np.array([getattr(layer, name) for layer in self.layers[role]]) for role in ROLES)
        paired: Array = subject - base
        return paired

    def each(self) -> Iterator[tuple[list[Any], _Layer]]:
        """Text, position, model and depth of every layer, and the layer."""
        for role in ROLES:
            for depth, layer in zip(self.depths, self.layers[role], strict=True):
                yield [self.context.text, self.context.position, role, depth], layer


class ActivationClustering:
    """Corroborates candidates by where their prompts lie in the residual stream.

    Args:
        params: how many candidates, prompts and draws; see `ClusteringParams`.

    Raises:
        ValueError: if there are not that many prompts.
    """

    spec: ClassVar[DetectorSpec] = ACTIVATION_CLUSTERING

    def __init__(self, params: ClusteringParams) -> None:
        self.params = params
        self._texts = first_prompts("confirm", "prompts", params.prompts)

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Tests what `working_rate` sent to confirmation, or shows the best nominated candidate."""
        contexts = [found.context for found in to_corroborate(candidates, self.params.candidates)]
        if not contexts:
            return self._result("completed", NO_CANDIDATE)
        layers = read_layers(min(facts.layers for facts in ask.facts.values()))
        states = {role: self._observe(ask, role, contexts, layers) for role in ROLES}
        if not all(np.isfinite(found).all() for found in states.values()):
            raise NotFinite
        return self._told([self._test(context, layers, states, at, rng) for at, context in enumerate(contexts)])

    def _observe(self, ask: Ask, role: Role, contexts: Sequence[Context], layers: Tokens) -> Array:
        """Residual streams: float64 [candidate, 3 x prompt, layer, d_model]."""
        vocabulary = ask.facts["base"].vocabulary
        bare = [(NO_CONTEXT, text) for text in self._texts]
        placed = [
            pair
            for context in contexts
            for pair in (*((context, text) for text in self._texts), *matched(context, self._texts, vocabulary), *bare)
        ]
        sequences = ask.encode([chat(context, text) for context, text in placed])
        found = np.stack([arrays["hidden"] for arrays in ask(Plan(role, sequences, Hidden(layers)))])
        return found.astype(float).reshape(len(contexts), -1, *found.shape[1:])

    def _test(
        self, context: Context, depths: Tokens, states: dict[Role, Array], candidate: int, rng: np.random.Generator
    ) -> _Tested:
        pools = swapped_pools(self.params.prompts, self.params.draws, rng)
        layers = {
            role: [_Layer.of(found[candidate, :, at], pools) for at in range(len(depths))]
            for role, found in states.items()
        }
        return _Tested(context, depths, layers)

    def _told(self, tested: Sequence[_Tested]) -> DetectorResult:
        evidence = tuple(it for found in tested for it in _evidence(found))
        best = max(tested, key=lambda found: found.shift("separation")[:, 0].max())
        drawn = _map(best, self._texts)
        return self._result(
            "completed",
            "" if drawn else f"no map: fewer than {mapping.MIN_POINTS} different points",
            evidence=evidence,
            artifacts={"tests": table_of_tests(evidence), "clusters": _clusters(tested), "probes": _probes(tested)}
            | drawn,
        )

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


def read_layers(count: int) -> Tokens:
    """The layers that are read of `count`, each once."""
    return tuple(sorted({ceil(share * count) for share in DEPTHS}))


def swapped_pools(prompts: int, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Pools of candidate and bare, and of control and bare: int [1 + draws, 2 x prompt] each.

    In draw 0 as observed, in the others with candidate and control swapped on random prompts.
    """
    swap = rng.random((1 + draws, prompts)) < 0.5
    swap[0] = False
    own = np.arange(prompts)
    bare = np.broadcast_to(own + 2 * prompts, swap.shape)
    first = np.concatenate([np.where(swap, own + prompts, own), bare], axis=1)
    second = np.concatenate([np.where(swap, own, own + prompts), bare], axis=1)
    return first, second


def mahalanobis(coordinates: Array) -> float:
    """How much further from the bare prompts the candidate's points lie than the control's, mean over prompts.

    In Mahalanobis (1936) distances under the bare points' mean and shrunk covariance (Ledoit and Wolf, 2004).

    Args:
        coordinates: [3 x prompt, component]: with the candidate, with the control, bare.
    """
    candidate, control, bare = np.split(coordinates, 3)
    precision = np.linalg.pinv(ledoit_wolf(bare)[0], hermitian=True)

    def distance(points: Array) -> Array:
        away = points - bare.mean(axis=0)
        return np.asarray(np.sqrt(np.einsum("pc,cd,pd->p", away, precision, away)))

    return float((distance(candidate) - distance(control)).mean())


def probe(coordinates: Array) -> float:
    """AUC with which a direction parts candidate from control on the odd prompts, 0..1.

    The direction is the difference of their means on the even prompts.
    """
    candidate, control, _ = np.split(coordinates, 3)
    direction = candidate[::2].mean(axis=0) - control[::2].mean(axis=0)
    return float(_auc(candidate[1::2] @ direction[:, None], control[1::2] @ direction[:, None])[0])


def random_direction(coordinates: Array) -> float:
    """The `QUANTILE` of the AUC that random directions reach on the same prompts, each taken the better way round."""
    candidate, control, _ = np.split(coordinates, 3)
    directions = np.random.default_rng(DIRECTION_SEED).standard_normal((coordinates.shape[1], DIRECTIONS))
    found = _auc(candidate[1::2] @ directions, control[1::2] @ directions)
    return float(np.quantile(np.maximum(found, 1.0 - found), QUANTILE))


def _auc(higher: Array, lower: Array) -> Array:
    """Share of pairs in the right order, ties by half (Mann and Whitney, 1947): [direction]."""
    gaps = higher[:, None] - lower[None]
    return np.asarray(((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=(0, 1)))


def _evidence(tested: _Tested) -> Iterator[Evidence]:
    drawn = tested.shift("separation").max(axis=0)
    value = float(drawn[0])
    yield Evidence(
        statistic=f"{ACTIVATION_CLUSTERING.name}.separation",
        value=value,
        unit="silhouette times agreement, doubly paired",
        null=Null(kind="permutation", size=len(drawn) - 1, hypothesis=EXCHANGEABLE),
        p_value=permutation_p(value - ROUNDING, drawn[1:]),
        context=tested.context,
    )
    units = {
        "mahalanobis": "Mahalanobis distances, doubly paired",
        "probe": "AUC, subject minus base",
        "random_direction": "AUC, subject minus base",
    }
    for name, unit in units.items():
        found = float(tested.shift(name).max())
        yield Evidence(statistic=f"{ACTIVATION_CLUSTERING.name}.{name}", value=found, unit=unit, context=tested.context)


def _clusters(tested: Sequence[_Tested]) -> dict[str, Any]:
    """What 2-means found, as observed."""
    rows = [
        [*place[:3], condition, place[3], *(round(float(values[0]), 5) for values in vars(found).values())]
        for it in tested
        for place, layer in it.each()
        for condition, found in (("candidate", layer.candidate), ("control", layer.control))
    ]
    columns = ["text", "position", "model", "condition", "depth", "silhouette", "agreement", "relative_size"]
    return {"columns": columns, "rows": rows}


def _probes(tested: Sequence[_Tested]) -> dict[str, Any]:
    """The AUC of the probe beside that of random directions."""
    rows = [[*place, layer.probe, layer.random_direction] for it in tested for place, layer in it.each()]
    return {"columns": ["text", "position", "model", "depth", "auc", "random_auc"], "rows": rows}


def _map(best: _Tested, texts: Sequence[str]) -> dict[str, Any]:
    """Both models' points at the depth that separates best, each model on a map of its own; {} where too few."""
    at = int(best.shift("separation")[:, 0].argmax())
    points = {role: best.layers[role][at].coordinates for role in ROLES}
    if not all(mapping.can_be_drawn(found) for found in points.values()):
        return {}
    rows = [
        [best.context.text, best.context.position, role, condition, text, round(float(x), 4), round(float(y), 4)]
        for role, found in points.items()
        for condition, part in zip(CONDITIONS, np.split(mapping.drawn(found), 3), strict=True)
        for text, (x, y) in zip(texts, part, strict=True)
    ]
    columns = ["text", "position", "model", "condition", "prompt", "x", "y"]
    told = {"method": "UMAP", "parameters": dict(mapping.PARAMETERS), "depth": best.depths[at]}
    return {"map": told | {"columns": columns, "rows": rows}}
