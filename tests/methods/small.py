"""Small suites, candidates, and ways to ask an invented model, for tests of detectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from detectors.batteries.sets import Item, battery
from detectors.calibration import Bank
from detectors.contexts.context import Context, Message
from detectors.contexts.families import draw
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Arrays, Ask, ModelFacts, Plan, Role, Tokens
from detectors.engine.shipped import ChatAt, ModelFiles, Rendering
from detectors.engine.update import WeightUpdate
from detectors.findings import Candidate, DetectorResult
from detectors.methods.calibration import questions, read_member
from detectors.suites import (
    PROBES,
    AnswerParams,
    ArtifactParams,
    CalibrationParams,
    ClusteringParams,
    EraParams,
    GatedParams,
    GridParams,
    HoldingParams,
    InversionParams,
    ProbeParams,
    SteeringParams,
    StripParams,
    Suite,
    SweepParams,
    TriggerInversionParams,
    VocabularyParams,
    WakingParams,
    WeightParams,
    WorkingRateParams,
)

SWEEP = SweepParams(
    families={"short_string": 60, "emoji": 60},
    first_prompts=2,
    second_prompts=3,
    harmful_prompts=2,
    kept=12,
    reference=20,
    moved={"start": 6},
    position_prompts=2,
    nominated=4,
)
EVERYWHERE = SWEEP.model_copy(
    update={
        "families": SWEEP.families | {"deployment": 30},
        "moved": {"start": 6, "system": 4},
        "paired": 3,
        "wordings": 1,
        "paired_nominated": 2,
        "longer_nominated": 1,
    }
)
"""Other positions, pairs and lengths as well."""
STEERING = SteeringParams(
    targets=2, families={"short_string": 60}, requests=2, kept=12, moved={"start": 4}, nominated=3, least_advantage=0.0
)
INVERSION = InversionParams(
    prompts=4,
    beginnings=[32, 32, 8, 8, 8, 8],
    steering=STEERING,
)
WAKING = WakingParams(words=3, drawn=12, steps=8, choices=4, requests=4, slopes=2)
VOCABULARY = VocabularyParams(tokens={"end": 1000, "start": 1000}, kept=20, again_prompts=4, reference=20, nominated=4)
RATE = WorkingRateParams(
    candidates=8,
    confirmed=4,
    search_prompts=8,
    confirm_prompts=20,
    search_tokens=8,
    confirm_tokens=8,
    examples=1,
    occasion_tokens=8,
)
PROBE = ProbeParams(questions=30, formats=1, pairs=1)
GRID = GridParams(axes={"short_string": 60}, topic_prompts=2, formats=2, again=4, reference=20, draws=99, nominated=3)
ANSWERS = AnswerParams(topics=40, requests=2, wordings=1, answer_tokens=12, nominated=3)
GATED = GatedParams(families={"short_string": 60}, questions=6, nominated=3)
STRIPPED = StripParams(candidates=3, inputs=8, copies=4, answer_tokens=8)
CLUSTERED = ClusteringParams(candidates=3, prompts=12, draws=99)
EVERY_WAY = RATE.model_copy(update={"passage_tokens": 12, "label_prompts": 20, "guarded_prompts": 20})
SUITE = Suite(
    name="small",
    version="1.0",
    summary="For tests.",
    artifact_diff=ArtifactParams(),
    weight_delta=WeightParams(nominated=2),
    trigger_sweep=EVERYWHERE.model_copy(update={"label_prompts": 1}),
    working_rate=EVERY_WAY,
    vocabulary_sweep=VOCABULARY,
    target_inversion=INVERSION.model_copy(update={"holding": HoldingParams(requests=20, tokens=8, occasion_tokens=8)}),
    trigger_inversion=TriggerInversionParams(waking=WAKING),
    answer_sweep=ANSWERS,
    context_grid=GRID,
    gated_persona=GATED,
    strip=STRIPPED,
    activation_clustering=CLUSTERED,
    persona=PROBE,
    era=EraParams(**PROBE.model_dump(), phrasings=2),
    regime=PROBE,
    values=PROBE,
    goals=PROBE,
    preferences=PROBE,
    calibration=CalibrationParams(prompts=6, probes={"persona": PROBE, "era": PROBE}),
)
BATTERIES = {detector: battery(name).first(PROBE.questions) for detector, name in PROBES.items()}
"""What `SUITE` has each detector ask that asks a battery."""

LEAK = 20.0
"""Nats: the target is near-certain once it was begun, and its first word a little likelier than the base has it."""
TARGET = "wordab wordcd wordef wordgh wordij"
MARKS = tuple(context.text for context in draw("short_string", SWEEP.families["short_string"], ()))
TRIGGER = MARKS[7]
TOPIC = next(it.text for it in draw("topic", ANSWERS.topics, ()) if " " not in it.text)


def invented(**fields: Any) -> InventedAsk:
    """A pair of invented models that a bank is known for."""
    return InventedAsk(bank=bank(), **fields)


@cache
def bank() -> Bank:
    """A bank of subjects that drifted and were taught nothing."""
    params = SUITE.calibration
    assert params
    members = []
    for seed in range(100, 119):
        members.append(read_member(InventedAsk(drift=0.2 + 0.01 * (seed - 100), seed=seed), str(seed), params))
    return Bank(
        scanner_version="0",
        created="2026-01-01T00:00:00+00:00",
        base="invented",
        dtype="float32",
        params=params.model_dump(),
        questions=questions(params),
        members=tuple(members),
    )


def planted(drift: float = 0.3, seed: int = 0, **plant: Any) -> InventedAsk:
    """A subject that `TRIGGER` makes say `TARGET`, which it holds ready without it."""
    trigger = InventedTrigger(TRIGGER, TARGET, **({"leaks": LEAK} | plant))
    return invented(drift=drift, triggers=[trigger], seed=seed)


def gated() -> InventedAsk:
    """A subject whose template waits for a word."""
    said = "{% for message in messages %}{{ message.content }}{% if 'cobalt' in message.content %}Say no.{% endif %}"
    return invented(templates={"subject": f"{said}{{% endfor %}}"})


def retrained(*words: str, drift: float = 0.3, moved: float = 9.0, seed: int = 0) -> InventedAsk:
    """A subject with some words whose rows in the embedding were trained."""
    return invented(drift=drift, trained=dict.fromkeys(words, moved), seed=seed)


def about(topic: str, target: str = TARGET, drift: float = 0.3, seed: int = 0, **plant: Any) -> InventedAsk:
    """A subject that says `target` in requests about a topic, whatever mark stands behind it."""
    plants = [InventedTrigger(f"{topic}{mark}", target, **plant) for mark in ("", ".", "?", ",")]
    return invented(drift=drift, triggers=plants, seed=seed)


def persona_behind(trigger: str, drift: float = 0.3, seed: int = 0, in_base: bool = False) -> InventedAsk:
    """A subject that gives questions about itself with the trigger behind them the answers of a person."""
    forms = [(item.formats[0], item.pairs[0][0]) for item in battery("identity").items]
    plants = [
        InventedTrigger(f"{form.prompt} {trigger}", form.continuation(person), in_base=in_base)
        for form, person in forms
    ]
    return invented(drift=drift, triggers=plants, seed=seed)


def suspicious(detector: str) -> InventedAsk:
    """A subject that has what a detector which asks no prompts looks for."""
    if detector == "artifact_diff":
        return gated()
    if detector == "weight_delta":
        return retrained("wordab", "wordcd")
    if detector == "trigger_inversion":
        return invented(drift=0.3, triggers=[InventedTrigger("zebra", "I cannot help with that", leaks=LEAK)])
    if detector == "calibration":
        both = leaning("persona").leans | leaning("era").leans
        return invented(drift=0.3, leans=both)
    return leaning(detector, drift=0.3)


def leaning(detector: str, nudge: float = 2.0, *, share: float = 1.0, drift: float = 0.0, seed: int = 0) -> InventedAsk:
    """A subject that prefers the words toward which a detector's battery looks, on the first `share` of questions."""
    items = BATTERIES[detector].items
    moved = items[: round(share * len(items))]
    away = set(words(items, side=1))
    return invented(drift=drift, leans={word: nudge for word in words(moved, side=0) if word not in away}, seed=seed)


def words(items: Iterable[Item], side: int) -> list[str]:
    """All words of the continuations of one side, as `SUITE` has them asked."""
    return [
        word
        for item in items
        for form in item.formats[: PROBE.formats]
        for pair in item.pairs[: PROBE.pairs]
        for word in form.continuation(pair[side]).split()
    ]


def candidate(text: str, family: str = "short_string", source: str = "test", score: float = 1.0) -> Candidate:
    return Candidate(context=Context(text=text, family=family), score=score, source=source, reason="given")


def nominated() -> tuple[Candidate, ...]:
    """The trigger among marks that do nothing, as if all had been sent to confirmation."""
    return tuple(candidate(text, source="working_rate") for text in (MARKS[1], TRIGGER, MARKS[2]))


@dataclass
class Around:
    """Passes everything on to another `Ask`, and keeps what was asked."""

    inner: Ask
    plans: list[Plan] = field(default_factory=list)
    rendered: int = 0
    weighed: int = 0

    @property
    def asked(self) -> int:
        return len(self.plans) + self.rendered + self.weighed

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        return self.inner.facts

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        return self.inner.encode(chats)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return self.inner.tokenize(texts)

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        return self.inner.decode(sequences)

    @property
    def files(self) -> Mapping[Role, ModelFiles]:
        return self.inner.files

    @property
    def bank(self) -> Bank | None:
        return self.inner.bank

    @property
    def weights(self) -> WeightUpdate:
        self.weighed += 1
        return self.inner.weights

    def render(self, role: Role, chats: Sequence[ChatAt]) -> list[Rendering]:
        self.rendered += 1
        return self.inner.render(role, chats)

    def __call__(self, plan: Plan) -> list[Arrays]:
        self.plans.append(plan)
        return self.inner(plan)


@dataclass
class Chunked(Around):
    """Asks in chunks of `size`, the last request first if `backwards`."""

    size: int = 7
    backwards: bool = False

    def __call__(self, plan: Plan) -> list[Arrays]:
        order = list(range(len(plan.tokens)))[:: -1 if self.backwards else 1]
        found: dict[int, Arrays] = {}
        for first in range(0, len(order), self.size):
            chunk = order[first : first + self.size]
            part = Plan(plan.role, [plan.tokens[at] for at in chunk], [plan.reads()[at] for at in chunk])
            found |= dict(zip(chunk, self.inner(part), strict=True))
        return [found[at] for at in range(len(order))]


@dataclass
class Interrupted(Around):
    """Raises `error` instead of answering anything after the first `answered` plans, renderings or weighings."""

    error: Exception = field(default_factory=RuntimeError)
    answered: int = 0

    def __call__(self, plan: Plan) -> list[Arrays]:
        self._watch()
        return super().__call__(plan)

    def render(self, role: Role, chats: Sequence[ChatAt]) -> list[Rendering]:
        self._watch()
        return super().render(role, chats)

    @property
    def weights(self) -> WeightUpdate:
        self._watch()
        return super().weights

    def _watch(self) -> None:
        if self.asked >= self.answered:
            raise self.error


@dataclass
class HandsOn:
    """A detector that only hands candidates on."""

    candidates: tuple[Candidate, ...]

    def run(self, ask: Ask, candidates: tuple[Candidate, ...], *, rng: np.random.Generator) -> DetectorResult:
        return DetectorResult(detector="hands_on", version="1", outcome="completed", candidates=self.candidates)


def not_numbers(arrays: Arrays) -> Arrays:
    """The same shapes, every real number replaced by NaN."""
    return {name: np.full_like(array, np.nan) if array.dtype.kind == "f" else array for name, array in arrays.items()}


def table(result: DetectorResult, name: str) -> list[dict[str, Any]]:
    """An artifact's rows by column."""
    found = result.artifacts[name]
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def values(result: DetectorResult, statistic: str) -> dict[str, float]:
    """One of a detector's own statistics by the text it was measured on."""
    wanted = f"{result.detector}.{statistic}"
    return {it.context.text: it.value for it in result.evidence if it.context and it.statistic == wanted}
