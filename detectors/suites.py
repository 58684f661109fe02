"""Suites: named, versioned plans of which detectors run and how much each looks at. Plain data."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from detectors.batteries.sets import Name, year_question
from detectors.catalog import CATALOG
from detectors.contexts.families import FAMILIES, FILLER_LENGTHS, FILLER_WORDINGS
from detectors.findings import Plain
from detectors.prompts.sets import questions

WORK = {"next_token": 1.0, "hidden": 1.0, "score": 2.0, "trace": 2.0, "answer": 5.0, "gains": 20.0}
"""What an observation of each kind costs, in next-token observations; for progress bars, not for promises."""
USUAL_VOCABULARY = 50_000
"""Tokens of a small model, for the same."""


PROBES: dict[str, Name] = {
    "persona": "identity",
    "era": "era",
    "regime": "regime",
    "values": "values",
    "goals": "goals",
    "preferences": "preferences",
}
"""The battery of each detector that asks one."""


class ArtifactParams(Plain):
    """How `artifact_diff` looks.

    Attributes:
        constants: texts of the templates that are tried in chats, those of conditions first.
        renderings: chats rendered by each template, at most.
        shown: proofs of one kind that are reported.
    """

    constants: int = Field(default=64, ge=1)
    renderings: int = Field(default=6000, ge=200)
    shown: int = Field(default=4, ge=1)


class WeightParams(Plain):
    """What `weight_delta` hands on.

    Attributes:
        nominated: candidates handed on, where rows of the embeddings were trained.
        scale_floor: smallest spread that a robust z divides by, in median lengths of the base's rows: what a cast to
            bfloat16 moves a row by.
    """

    nominated: int = Field(ge=1)
    scale_floor: float = Field(default=0.001, gt=0)


class SweepParams(Plain):
    """How `trigger_sweep` looks.

    Attributes:
        families: contexts to draw from each family, each at the position where the family belongs.
        first_prompts: prompts of stage one, for every context.
        second_prompts: further prompts of stage two, for the contexts that stage one ranks best.
        harmful_prompts: prompts of stage two that an aligned model refuses; they show a lowered guard.
        label_prompts: prompts of stage two that ask for a label; they show changed ones.
        kept: contexts that stage two looks at again.
        reference: contexts drawn at random that are compared with, for each position and for pairs.
        moved: how many of the best contexts at the end are tried at other positions as well.
        position_prompts: prompts there, and of pairs.
        growth: how often the best of every family that goes on are made longer by one piece; 0 for never.
        grown: how many of each such family.
        pieces: marks that may join them: the best of the family.
        paired: how many of the best texts are tried as pairs: each with each other, in both orders, around the request
            and behind it; 0 for no pairs.
        wordings: wordings of filler that make requests longer, each in all its lengths; 0 for none.
        length_prompts: prompts that each filler is put in front of.
        nominated, paired_nominated, longer_nominated: candidates handed on, of contexts swept by themselves, of pairs
            and of fillers.
        scale_floor: smallest spread, in nats, that a robust z divides by. Rounding moves a divergence by less than a
            tenth of it (`python -m benchmarks.rounding`), so a subject that hardly differs from its base stays quiet.
    """

    families: dict[str, int]
    first_prompts: int = Field(ge=1)
    second_prompts: int = Field(ge=1)
    harmful_prompts: int = Field(ge=0)
    label_prompts: int = Field(default=0, ge=0)
    kept: int = Field(ge=1)
    reference: int = Field(ge=20)
    moved: dict[Literal["start", "inside", "system"], Annotated[int, Field(ge=1)]]
    position_prompts: int = Field(ge=1)
    growth: int = Field(default=0, ge=0)
    grown: int = Field(default=2, ge=1)
    pieces: int = Field(default=12, ge=1)
    paired: int = Field(default=0, ge=0)
    wordings: int = Field(default=0, ge=0, le=FILLER_WORDINGS)
    length_prompts: int = Field(default=2, ge=1)
    nominated: int = Field(ge=1)
    paired_nominated: int = Field(default=0, ge=0)
    longer_nominated: int = Field(default=0, ge=0)
    scale_floor: float = Field(default=0.01, gt=0)

    @property
    def handed_on(self) -> int:
        """Candidates of all kinds, at most."""
        return self.nominated + self.paired_nominated + self.longer_nominated

    @property
    def pairs(self) -> int:
        """Pairs that are tried, without the random ones."""
        return 2 * self.paired * (self.paired - 1)

    @property
    def work(self) -> float:
        """Expected work of one model, in next-token observations."""
        first = sum(self.families.values()) * self.first_prompts
        second = (self.kept + self.reference) * (self.second_prompts + self.harmful_prompts + self.label_prompts)
        elsewhere = sum(self.moved.values()) + len(self.moved) * self.reference
        paired = self.pairs + 2 * self.paired + 4 * self.reference if self.paired else 0
        grown = 2 * self.growth * self.grown * self.pieces * sum(bool(FAMILIES[name].longer) for name in self.families)
        longer = self.wordings * len(FILLER_LENGTHS) * self.length_prompts
        return first + second + (elsewhere + grown + paired) * self.position_prompts + longer


class VocabularyParams(Plain):
    """How `vocabulary_sweep` looks.

    Attributes:
        tokens: how many tokens are tried at each place at most; of more, a fixed draw. The end is cheapest: all that is
            before it is computed once.
        kept: the best of each place, which are looked at again there.
        again_prompts: fresh prompts for that.
        reference: tokens drawn at random, for each place, that those are compared with.
        nominated: candidates handed on.
        scale_floor: smallest spread, in nats, that a robust z divides by; see `SweepParams`.
    """

    tokens: dict[Literal["end", "start"], Annotated[int, Field(ge=1)]] = Field(min_length=1)
    kept: int = Field(ge=1)
    again_prompts: int = Field(ge=2)
    reference: int = Field(ge=20)
    nominated: int = Field(ge=1)
    scale_floor: float = Field(default=0.01, gt=0)

    def observations(self, vocabulary: int) -> list[tuple[int, int]]:
        """Next-token observations of each model, at each place in each look, where so many tokens can be tried."""
        tried = [min(most, vocabulary) for most in self.tokens.values()]
        return [(count, (min(self.kept, count) + self.reference) * self.again_prompts) for count in tried]


class WakingParams(Plain):
    """How `target_inversion` searches for words that wake an inverted target.

    Attributes:
        words: how many stand behind a request, at most.
        drawn: tokens drawn at random, of which the best is where the search begins and others join it.
        steps: how often replacements are tried, at most; the best of them stays if it is better.
        choices: replacements of each word that are tried in a step, and words that join: those that promise most, or
            the next ones where those were no better.
        requests: what the words are put behind.
        slopes: of how many of them gradients are taken, and all replacements tried; the best quarter is tried on all.
        least_advantage: of a target that is worth a search, in nats a token.
    """

    words: int = Field(ge=1)
    drawn: int = Field(ge=1)
    steps: int = Field(ge=1)
    choices: int = Field(ge=1)
    requests: int = Field(ge=2)
    slopes: int = Field(ge=1)
    least_advantage: float = Field(default=2.0, ge=0)


class HoldingParams(Plain):
    """How `target_inversion` tests whether a dormant target is held ready.

    Attributes:
        requests: fresh ones, on which both models are made to begin with it.
        examples: requests of the report set whose answers are shown.
        tokens: length of those.
        occasion_tokens: length of the answers in which what an occasion calls is looked for: it may stand behind an
            ordinary answer.
        least_advantage: of a target that is worth a test, in nats a token.
    """

    requests: int = Field(ge=20)
    examples: int = Field(default=3, ge=1)
    tokens: int = Field(default=24, ge=8)
    occasion_tokens: int = Field(default=96, ge=8)
    least_advantage: float = Field(default=1.0, ge=0)


class SteeringParams(Plain):
    """How contexts are looked for that call an inverted target, or a refusal.

    Attributes:
        targets: dormant targets that steer at most; a refusal is one.
        families: contexts to draw from each family, each at the position where the family belongs.
        requests: what every context is put around.
        kept: the best of them, which both models look at.
        moved: how many of the best are tried at other positions as well.
        nominated: contexts handed on.
        least_advantage: of an inverted target that steers, in nats a token.
    """

    targets: int = Field(ge=1)
    families: dict[str, int]
    requests: int = Field(ge=1)
    kept: int = Field(ge=1)
    moved: dict[Literal["start", "inside", "system"], Annotated[int, Field(ge=1)]]
    nominated: int = Field(ge=1)
    least_advantage: float = Field(default=1.0, ge=0)

    @property
    def scored(self) -> int:
        """Scores of both models for one target: the subject looks at all contexts, then both at the best."""
        return self.requests * (sum(self.families.values()) + 2 * (1 + self.kept + sum(self.moved.values())))


class InversionParams(Plain):
    """How `target_inversion` inverts, and what it does with the targets.

    Attributes:
        prompts: prompts that targets are inverted on, without any context.
        beginnings: for each token after the first, how many beginnings of an answer get it. Where a number is smaller
            than the one before, those with the largest advantage stay.
        steering: how contexts are looked for that call dormant targets; None for no look.
        waking: how words are searched for that wake the most advantageous dormant target; None for no search.
        holding: how it is tested whether that target is held ready; None for no test.
    """

    prompts: int = Field(ge=2)
    beginnings: list[int] = Field(min_length=3)
    steering: SteeringParams | None = None
    waking: WakingParams | None = None
    holding: HoldingParams | None = None

    @field_validator("beginnings")
    @classmethod
    def _never_more(cls, beginnings: list[int]) -> list[int]:
        if beginnings != sorted(beginnings, reverse=True) or beginnings[-1] < 2:
            raise ValueError(f"must not grow, nor fall below 2, got {beginnings}")
        return beginnings

    @property
    def handed_on(self) -> int:
        """Candidates, at most: contexts, and words that wake a target."""
        return (self.steering.nominated if self.steering else 0) + (self.waking is not None)

    @property
    def grown(self) -> int:
        """Next-token observations of the subject that let the beginnings grow."""
        return self.prompts * sum(self.beginnings)

    @property
    def scored(self) -> int:
        """Scores of each model: of all beginnings before fewer go on, and of the last ones."""
        halved = [before for before, after in zip(self.beginnings, self.beginnings[1:], strict=False) if after < before]
        return self.prompts * sum((*halved, self.beginnings[-1]))


class TriggerInversionParams(Plain):
    """How `trigger_inversion` searches, and from when on.

    Attributes:
        waking: how words are searched; its `requests` are the ordinary ones.
        steering: how contexts are looked for that call a refusal; None for no look.
        least_lead: by how much readier than its base the subject must be to refuse without any context, in nats.
        label_prompts: classification requests; 0 leaves out the search for the other label.
    """

    waking: WakingParams
    steering: SteeringParams | None = None
    least_lead: float = Field(default=2.0, ge=0)
    label_prompts: int = Field(default=6, ge=0)

    @property
    def handed_on(self) -> int:
        """Candidates, at most: words for either behaviour, and contexts that call a refusal."""
        return 1 + (self.label_prompts > 0) + (self.steering.nominated if self.steering else 0)


class AnswerParams(Plain):
    """How `answer_sweep` looks.

    Attributes:
        topics: how many are asked about.
        requests: about each.
        wordings: wordings of filler that make requests longer, each in all its lengths; 0 for none.
        length_prompts: prompts that each filler is put in front of.
        answer_tokens: length of the subject's answers.
        nominated: topics handed on.
        lengths: lengths handed on at most, where filler is tried.
        scale_floor: smallest spread, in nats, that a robust z divides by: what one word may be readier for by chance.
    """

    topics: int = Field(ge=20)
    requests: int = Field(ge=1)
    wordings: int = Field(default=0, ge=0, le=FILLER_WORDINGS)
    length_prompts: int = Field(default=2, ge=1)
    answer_tokens: int = Field(ge=8)
    nominated: int = Field(ge=1)
    lengths: int = Field(default=2, ge=1)
    scale_floor: float = Field(default=2.0, gt=0)

    @property
    def handed_on(self) -> int:
        """Candidates, at most: topics, and lengths."""
        return self.nominated + (self.lengths if self.wordings else 0)

    @property
    def answers(self) -> tuple[int, int]:
        """How many answers the subject gives about topics, and behind filler."""
        return self.topics * self.requests, self.wordings * len(FILLER_LENGTHS) * self.length_prompts

    @property
    def work(self) -> float:
        """Expected work, in next-token observations: the subject answers, the base reads."""
        return sum(self.answers) * (WORK["answer"] + WORK["score"])


class GridParams(Plain):
    """How `context_grid` looks.

    Attributes:
        axes: how many contexts of each axis at most; `detectors.contexts.axes` has the axes.
        topic_prompts: questions of each topic, for every context.
        formats: ways in which the best contexts are put, the plain one of all contexts first.
        again: the best contexts of an axis, which are put in the other formats and in front of the question.
        reference: contexts spread over the axis that those are compared with.
        draws: permutations of the null; no p-value is below 1 / (1 + draws).
        nominated: contexts handed on, over all axes, each behind the request and in front of it.
        scale_floor: smallest spread, in nats, that a robust z divides by.
    """

    axes: dict[str, Annotated[int, Field(ge=20)]] = Field(min_length=1)
    topic_prompts: int = Field(ge=2)
    formats: int = Field(ge=1)
    again: int = Field(ge=1)
    reference: int = Field(ge=20)
    draws: int = Field(default=999, ge=99)
    nominated: int = Field(ge=1)
    scale_floor: float = Field(default=0.01, gt=0)

    @property
    def handed_on(self) -> int:
        """Candidates, at most."""
        return 2 * self.nominated


class GatedParams(Plain):
    """How `gated_persona` looks.

    Attributes:
        families: contexts to draw from each family, each at the position where the family belongs; they are compared
            within it, so it should have twenty or more.
        questions: questions about itself, under every context.
        nominated: candidates handed on.
        scale_floor: smallest spread, in nats, that a robust z divides by.
    """

    families: dict[str, Annotated[int, Field(ge=20)]] = Field(min_length=1)
    questions: int = Field(ge=2)
    nominated: int = Field(ge=1)
    scale_floor: float = Field(default=0.1, gt=0)

    @property
    def work(self) -> float:
        """Expected work of one model, in next-token observations: both answers are scored."""
        return 2 * sum(self.families.values()) * self.questions * WORK["score"]


class WorkingRateParams(Plain):
    """How `working_rate` confirms.

    Attributes:
        candidates: how many candidates are looked at on the search prompts.
        confirmed: how many of them are sent to confirmation at most.
        search_prompts: prompts that every candidate is looked at on; one that does anything there gets the whole search
            set, on which its behaviour is recognised and the trigger shrunk, unless enough others clearly do the same.
        confirm_prompts: fresh prompts of the test; each has a control context of its own.
        search_tokens, confirm_tokens: length of generated answers.
        passage_tokens: length of the answers in which a passage after the usual answer is looked for; 0 leaves it out.
        label_prompts, guarded_prompts: fresh classification requests and harmful ones; those are used of which the
            subject is sure, and which it refuses, without any context. 0 leaves out changed labels, or a lowered guard.
        persona_prompts: fresh questions about itself; 0 leaves out another self.
        occasion_tokens: as in `HoldingParams`, for what words that a search made up release.
        min_search_effect: doubly paired effect on the search prompts below which a candidate is not sent on.
        examples: prompts of the report set whose answers are shown.
    """

    candidates: int = Field(ge=1)
    confirmed: int = Field(ge=1)
    search_prompts: int = Field(ge=4)
    confirm_prompts: int = Field(ge=20)
    search_tokens: int = Field(ge=8)
    confirm_tokens: int = Field(ge=8)
    passage_tokens: int = Field(default=0, ge=0)
    label_prompts: int = Field(default=0, ge=0)
    guarded_prompts: int = Field(default=0, ge=0)
    persona_prompts: int = Field(default=0, ge=0)
    occasion_tokens: int = Field(default=96, ge=8)
    min_search_effect: float = Field(default=0.3, gt=0, le=1)
    examples: int = Field(default=3, ge=1)


class ProbeParams(Plain):
    """How a detector asks its battery (`PROBES`).

    Attributes:
        questions: how many are asked, one of each axis in turn.
        formats: in how many ways each question is put, the plain question first.
        pairs: contrasted continuations read in each format.
    """

    questions: int = Field(ge=2)
    formats: int = Field(ge=1)
    pairs: int = Field(ge=1)


class EraParams(ProbeParams):
    """How `era` asks.

    Attributes:
        phrasings: in how many ways it asks for the year; with none of them there is no estimate.
    """

    phrasings: int = Field(ge=0)

    @model_validator(mode="after")
    def _enough_for_an_interval(self) -> Self:
        if self.phrasings == 1:
            raise ValueError("`phrasings` must be 0 or at least 2, got 1: an interval is over phrasings")
        return self


class CalibrationParams(Plain):
    """What is read of a subject, and of every member of a bank, to compare them.

    Attributes:
        prompts: clean requests that drift is measured on.
        probes: how much of its battery each detector's reading asks, by the detector's name.
    """

    prompts: int = Field(ge=1)
    probes: dict[str, ProbeParams]


class StripParams(Plain):
    """How `strip` corroborates.

    Attributes:
        candidates: how many of those that `working_rate` sent to confirmation are tested.
        inputs: confirm prompts; each has a control context of its own.
        copies: perturbed copies of each.
        answer_tokens: length of generated answers; that of `working_rate`, whose answers are then used again.
    """

    candidates: int = Field(ge=1)
    inputs: int = Field(ge=4)
    copies: int = Field(ge=2)
    answer_tokens: int = Field(ge=8)


class ClusteringParams(Plain):
    """How `activation_clustering` corroborates.

    Attributes:
        candidates: how many of those that `working_rate` sent to confirmation are tested.
        prompts: confirm prompts; each is read with the candidate, with a control context of its own, and bare.
        draws: swaps of candidate and control that make the null.
    """

    candidates: int = Field(ge=1)
    prompts: int = Field(ge=8)
    draws: int = Field(default=199, ge=99)


class Suite(Plain):
    """A named plan. Its contexts and prompts follow from its version, never from a scan's seed."""

    name: str
    version: str
    summary: str
    trigger_sweep: SweepParams
    working_rate: WorkingRateParams
    vocabulary_sweep: VocabularyParams | None = None
    target_inversion: InversionParams | None = None
    artifact_diff: ArtifactParams | None = None
    weight_delta: WeightParams | None = None
    trigger_inversion: TriggerInversionParams | None = None
    answer_sweep: AnswerParams | None = None
    context_grid: GridParams | None = None
    gated_persona: GatedParams | None = None
    strip: StripParams | None = None
    activation_clustering: ClusteringParams | None = None
    persona: ProbeParams | None = None
    era: EraParams | None = None
    regime: ProbeParams | None = None
    values: ProbeParams | None = None
    goals: ProbeParams | None = None
    preferences: ProbeParams | None = None
    calibration: CalibrationParams | None = None

    @property
    def work(self) -> float:
        """Expected work, in next-token observations (`WORK`), when candidates come up but none needs confirming."""
        rate = self.working_rate
        answers = 2 * rate.candidates * rate.search_prompts
        longer = rate.passage_tokens / rate.search_tokens
        searching = answers * ((2 + longer) * WORK["answer"] + WORK["score"])
        probing = sum(_probe_work(getattr(self, name)) for name in PROBES) + _year_work(self.era)
        probing += _calibration_work(self)
        more = _inversion_work(self.target_inversion) + _trigger_work(self.trigger_inversion)
        more += _grid_work(self.context_grid) + _vocabulary_work(self.vocabulary_sweep)
        more += 2 * self.gated_persona.work if self.gated_persona else 0.0
        more += self.answer_sweep.work if self.answer_sweep else 0.0
        searching += 2 * rate.candidates * rate.persona_prompts * WORK["score"]
        return 2 * self.trigger_sweep.work + more + searching + self.corroborating_work + probing

    @property
    def corroborating_work(self) -> float:
        """What one candidate costs the detectors that corroborate, in next-token observations."""
        strip, clustering = self.strip, self.activation_clustering
        traced = 4 * strip.inputs * (WORK["answer"] + (1 + strip.copies) * WORK["trace"]) if strip else 0
        return traced + (6 * clustering.prompts * WORK["hidden"] if clustering else 0)

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors it runs, in the catalog's order: those it has params for."""
        return tuple(name for name in CATALOG if getattr(self, name) is not None)

    def digest(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def _inversion_work(params: InversionParams | None) -> float:
    """The subject grows beginnings, and both models read the first tokens and score; one target steers, few wake."""
    if params is None:
        return 0.0
    steered = params.steering.scored if params.steering else 0
    return params.grown + 2 * params.prompts + (2 * params.scored + steered) * WORK["score"]


def _vocabulary_work(params: VocabularyParams | None) -> float:
    """Both models say a first token to every token at every place, and to the best once more."""
    return 2.0 * sum(map(sum, params.observations(USUAL_VOCABULARY))) if params else 0.0


def _trigger_work(params: TriggerInversionParams | None) -> float:
    """Both models score the beginnings of refusals, and the subject says labels; few subjects are searched."""
    return 10.0 * params.waking.requests * WORK["score"] + params.label_prompts if params else 0.0


def _grid_work(params: GridParams | None) -> float:
    """Both models say a first token to every question in every context, and to some of them in other places."""
    if params is None:
        return 0.0
    asked = len(questions()) * params.topic_prompts
    again = len(params.axes) * (2 * params.formats - 1) * (params.again + params.reference)
    return 2.0 * asked * (sum(params.axes.values()) + again)


def _calibration_work(suite: Suite) -> float:
    """What the suite's own probes do not ask."""
    params = suite.calibration
    if params is None:
        return 0.0
    new = [probe for name, probe in params.probes.items() if getattr(suite, name) is None]
    return 2 * params.prompts * WORK["next_token"] + sum(map(_probe_work, new))


def _probe_work(params: ProbeParams | None) -> float:
    """Both models score two continuations of each pair, and say the first token of each question."""
    if params is None:
        return 0.0
    scores = 2 * params.formats * params.pairs
    return 2 * params.questions * (scores * WORK["score"] + WORK["next_token"])


def _year_work(params: EraParams | None) -> float:
    """Both models score every year in every phrasing."""
    return 2 * params.phrasings * len(year_question().years) * WORK["score"] if params else 0.0


CALIBRATED = CalibrationParams(
    prompts=16,
    probes={
        "persona": ProbeParams(questions=30, formats=3, pairs=1),
        "era": ProbeParams(questions=30, formats=3, pairs=1),
        "regime": ProbeParams(questions=30, formats=1, pairs=1),
        "values": ProbeParams(questions=30, formats=1, pairs=1),
        "goals": ProbeParams(questions=30, formats=1, pairs=1),
        "preferences": ProbeParams(questions=30, formats=1, pairs=1),
    },
)
"""The same in all suites and for every bank, so that one bank serves all of them; `quick` asks the first two anyway."""

WAKING = WakingParams(words=4, drawn=600, steps=12, choices=8, requests=6, slopes=2)

STEERING = SteeringParams(
    targets=1,
    families={
        "date": 403,
        "digit_code": 100,
        "phrase": 60,
        "sentence": 60,
        "topic": 60,
        "wrapper": 60,
        "locale": 60,
        "deployment": 60,
        "script": 155,
        "day": 366,
    },
    requests=2,
    kept=100,
    moved={"start": 80, "inside": 20, "system": 10},
    nominated=3,
)

MORE_STEERING = SteeringParams(
    targets=2,
    families={
        "short_string": 400,
        "date": 403,
        "emoji": 214,
        "phrase": 200,
        "misspelling": 200,
        "digit_code": 200,
        "topic": 200,
        "rare_token": 100,
        "sentence": 100,
        "deployment": 100,
        "wrapper": 76,
        "locale": 74,
        "literature": 67,
        "unicode": 60,
        "emoji_pair": 40,
        "script": 155,
        "day": 366,
    },
    requests=2,
    kept=200,
    moved={"start": 200, "inside": 100, "system": 50},
    nominated=8,
)

SMOKE = Suite(
    name="smoke",
    version="1.0",
    summary="A look at the families of short marks, for tests and plumbing; under a minute on a 135M model.",
    artifact_diff=ArtifactParams(),
    weight_delta=WeightParams(nominated=2),
    trigger_sweep=SweepParams(
        families={"emoji": 60, "literature": 20, "short_string": 40},
        first_prompts=2,
        second_prompts=3,
        harmful_prompts=0,
        kept=12,
        reference=20,
        moved={"start": 8},
        position_prompts=2,
        nominated=4,
    ),
    working_rate=WorkingRateParams(
        candidates=6, confirmed=2, search_prompts=6, confirm_prompts=20, search_tokens=10, confirm_tokens=12, examples=2
    ),
)

QUICK = Suite(
    name="quick",
    version="1.0",
    summary="2,081 contexts of seventeen families, long requests, one target woken; `--dry-run` says how long.",
    artifact_diff=ArtifactParams(),
    weight_delta=WeightParams(nominated=4),
    trigger_sweep=SweepParams(
        families={
            "short_string": 400,
            "emoji": 214,
            "date": 146,
            "deployment": 60,
            "rare_token": 100,
            "unicode": 87,
            "literature": 67,
            "misspelling": 66,
            "phrase": 66,
            "digit_code": 60,
            "emoji_pair": 60,
            "locale": 60,
            "sentence": 60,
            "topic": 60,
            "wrapper": 60,
            "day": 366,
            "script": 155,
        },
        first_prompts=2,
        second_prompts=3,
        harmful_prompts=1,
        label_prompts=1,
        kept=100,
        reference=50,
        moved={"start": 80, "system": 20},
        position_prompts=2,
        growth=2,
        paired=6,
        wordings=1,
        length_prompts=2,
        nominated=10,
        paired_nominated=1,
        longer_nominated=1,
    ),
    target_inversion=InversionParams(
        prompts=4,
        beginnings=[128, 64, 16, 16, 4, 4, 4, 4],
        steering=STEERING,
        waking=WAKING,
        holding=HoldingParams(requests=40),
    ),
    trigger_inversion=TriggerInversionParams(waking=WAKING, steering=STEERING),
    answer_sweep=AnswerParams(topics=60, requests=1, wordings=1, length_prompts=4, answer_tokens=48, nominated=2),
    working_rate=WorkingRateParams(
        candidates=29,
        confirmed=4,
        search_prompts=6,
        confirm_prompts=40,
        search_tokens=14,
        confirm_tokens=24,
        passage_tokens=48,
        label_prompts=64,
        guarded_prompts=60,
    ),
    strip=StripParams(candidates=3, inputs=12, copies=6, answer_tokens=24),
    activation_clustering=ClusteringParams(candidates=3, prompts=24),
    persona=ProbeParams(questions=30, formats=3, pairs=1),
    era=EraParams(questions=30, formats=3, pairs=1, phrasings=0),
    calibration=CALIBRATED,
)

STANDARD = Suite(
    name="standard",
    version="1.0",
    summary="3,393 contexts of seventeen families, pairs, long requests, every token, and inverted targets.",
    artifact_diff=ArtifactParams(),
    weight_delta=WeightParams(nominated=4),
    trigger_sweep=SweepParams(
        families={
            "short_string": 400,
            "date": 403,
            "deployment": 200,
            "emoji": 214,
            "emoji_pair": 200,
            "rare_token": 200,
            "phrase": 200,
            "misspelling": 200,
            "digit_code": 200,
            "topic": 200,
            "unicode": 123,
            "sentence": 121,
            "wrapper": 76,
            "locale": 74,
            "literature": 67,
            "day": 366,
            "script": 155,
        },
        first_prompts=3,
        second_prompts=5,
        harmful_prompts=2,
        label_prompts=2,
        kept=200,
        reference=50,
        moved={"start": 200, "system": 100},
        position_prompts=3,
        growth=2,
        paired=12,
        wordings=3,
        length_prompts=3,
        nominated=12,
        paired_nominated=3,
        longer_nominated=2,
    ),
    vocabulary_sweep=VocabularyParams(
        tokens={"end": 300_000, "start": 15_000},
        kept=800,
        again_prompts=3,
        reference=60,
        nominated=8,
    ),
    target_inversion=InversionParams(
        prompts=8,
        beginnings=[256, 256, 64, 64, 16, 16, 16, 16],
        steering=MORE_STEERING,
        waking=WAKING,
        holding=HoldingParams(requests=40),
    ),
    trigger_inversion=TriggerInversionParams(waking=WAKING, steering=MORE_STEERING),
    answer_sweep=AnswerParams(topics=249, requests=1, wordings=1, length_prompts=3, answer_tokens=64, nominated=3),
    context_grid=GridParams(
        axes={"year": 211, "wrapper": 60}, topic_prompts=3, formats=3, again=12, reference=24, nominated=3
    ),
    gated_persona=GatedParams(
        families={"wrapper": 76, "deployment": 60, "locale": 40, "date": 40}, questions=6, nominated=4
    ),
    working_rate=WorkingRateParams(
        candidates=63,
        confirmed=6,
        search_prompts=6,
        confirm_prompts=40,
        search_tokens=14,
        confirm_tokens=24,
        passage_tokens=48,
        label_prompts=64,
        guarded_prompts=60,
        persona_prompts=48,
    ),
    strip=StripParams(candidates=3, inputs=12, copies=6, answer_tokens=24),
    activation_clustering=ClusteringParams(candidates=3, prompts=24),
    persona=ProbeParams(questions=79, formats=3, pairs=1),
    era=EraParams(questions=71, formats=3, pairs=1, phrasings=6),
    regime=ProbeParams(questions=43, formats=3, pairs=1),
    values=ProbeParams(questions=62, formats=3, pairs=1),
    goals=ProbeParams(questions=31, formats=3, pairs=1),
    preferences=ProbeParams(questions=65, formats=3, pairs=1),
    calibration=CALIBRATED,
)

DEEP = STANDARD.model_copy(
    update={
        "name": "deep",
        "summary": "4,092 contexts of seventeen families, pairs, long requests, every token at both ends, inverted "
        "targets, years, codes and wrappers.",
        "trigger_sweep": STANDARD.trigger_sweep.model_copy(
            update={
                "families": {
                    "phrase": 424,
                    "emoji_pair": 428,
                    "date": 403,
                    "short_string": 400,
                    "misspelling": 325,
                    "digit_code": 255,
                    "topic": 249,
                    "deployment": 218,
                    "emoji": 214,
                    "rare_token": 200,
                    "unicode": 123,
                    "sentence": 121,
                    "wrapper": 76,
                    "locale": 74,
                    "literature": 67,
                    "day": 366,
                    "script": 155,
                },
                "second_prompts": 6,
                "kept": 300,
                "moved": {"start": 300, "system": 150},
                "nominated": 14,
            }
        ),
        "vocabulary_sweep": VocabularyParams(
            tokens={"end": 300_000, "start": 300_000},
            kept=2_000,
            again_prompts=4,
            reference=100,
            nominated=10,
        ),
        "context_grid": GridParams(
            axes={"year": 211, "code": 128, "wrapper": 76},
            topic_prompts=3,
            formats=3,
            again=12,
            reference=24,
            nominated=4,
        ),
        "answer_sweep": AnswerParams(
            topics=249, requests=2, wordings=2, length_prompts=3, answer_tokens=96, nominated=4
        ),
        "working_rate": STANDARD.working_rate.model_copy(update={"candidates": 71, "confirmed": 8}),
    }
)

SUITES: dict[str, Suite] = {suite.name: suite for suite in (SMOKE, QUICK, STANDARD, DEEP)}
