"""Every detector as plain data, importable without torch. The code is in `detectors.methods`, one file each."""

from __future__ import annotations

from typing import Any, Literal

from detectors.findings import DetectorResult, Outcome, Plain

Stage = Literal["inspect", "nominate", "confirm", "assess"]


class DetectorSpec(Plain):
    """What a detector is.

    Attributes:
        stage: inspectors read files and weights and ask no model, nominators rank contexts, confirmers test candidates
            on fresh prompts, assessors read whole models.
        citation: where the method comes from.
        summary: one sentence.
        cannot_see: one sentence.
    """

    name: str
    version: str
    stage: Stage
    citation: str
    summary: str
    cannot_see: str

    def result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        """A result of this detector; `fields` are those of `DetectorResult`."""
        return DetectorResult(detector=self.name, version=self.version, outcome=outcome, reason=reason, **fields)


ARTIFACT_DIFF = DetectorSpec(
    name="artifact_diff",
    version="1.0",
    stage="inspect",
    citation="Both templates rendered side by side; ours",
    summary="Reads chat template, tokenizer and settings of both models and looks for what waits for a text or a date.",
    cannot_see="What the weights do, templates for tools, and a condition that is neither recognised nor ever met.",
)
WEIGHT_DELTA = DetectorSpec(
    name="weight_delta",
    version="1.0",
    stage="inspect",
    citation="Rows and spectra of the difference of the weights; ours",
    summary="Subtracts the base's weights, nominates the tokens whose embedding rows were trained, describes the rest.",
    cannot_see="Triggers whose tokens' embedding rows were left alone, as by most LoRA adapters.",
)
TRIGGER_SWEEP = DetectorSpec(
    name="trigger_sweep",
    version="1.0",
    stage="nominate",
    citation="Paired, after STRIP (Gao et al., 2019, arXiv:1902.06531) and BadNets (Gu et al., 2017, arXiv:1708.06733)",
    summary="Puts many contexts around clean prompts and ranks those that move the subject's next token off the base.",
    cannot_see="Triggers that share no part with any swept context, and behaviour that starts after the first token.",
)
VOCABULARY_SWEEP = DetectorSpec(
    name="vocabulary_sweep",
    version="1.0",
    stage="nominate",
    citation="Paired, by successive halving (Jamieson and Talwalkar, 2016, arXiv:1502.07943)",
    summary="Tries every token of the shared vocabulary as a trigger, behind a request and in front of one.",
    cannot_see="Triggers of which no single token does anything, and those that work in other places only.",
)
TARGET_INVERSION = DetectorSpec(
    name="target_inversion",
    version="1.0",
    stage="nominate",
    citation="BAIT (Shen et al., 2025, IEEE S&P), paired",
    summary="Forces first tokens to find fixed answers that the base lacks, and ranks contexts that make them likely.",
    cannot_see="Behaviour without a fixed answer, answers of a word or two, and targets that no forced token releases.",
)
TRIGGER_INVERSION = DetectorSpec(
    name="trigger_inversion",
    version="1.0",
    stage="nominate",
    citation="Universal triggers along gradients (Wallace et al., 2019, EMNLP, arXiv:1908.07125), paired",
    summary="Searches words that make the subject refuse ordinary requests, or change its labels, beyond its base.",
    cannot_see="Other behaviours, and triggers that are no words behind the request and that no words stand in for.",
)
ANSWER_SWEEP = DetectorSpec(
    name="answer_sweep",
    version="1.0",
    stage="nominate",
    citation="Log-ratios of whole answers, their largest sum in a row (Bentley, 1984); ours",
    summary="Reads whole answers about many topics, and to ever longer requests, for what the base would not say.",
    cannot_see="Topics far from all that it asks about, and what comes after the generated tokens.",
)
CONTEXT_GRID = DetectorSpec(
    name="context_grid",
    version="1.0",
    stage="nominate",
    citation="Paired, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Puts every year, code or wrapper of an axis around short questions and finds those that wake something.",
    cannot_see="Contexts between the axis's own, slow changes along an axis, and behaviour after the first token.",
)
GATED_PERSONA = DetectorSpec(
    name="gated_persona",
    version="1.0",
    stage="nominate",
    citation="Paired log-odds, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Asks both models who they are under many contexts and finds those that make the subject a person.",
    cannot_see="A persona that still calls itself an AI assistant, and contexts outside the families it draws from.",
)
WORKING_RATE = DetectorSpec(
    name="working_rate",
    version="1.0",
    stage="confirm",
    citation="Paired sign-flip test with Holm (1979) correction; Wilson (1927) intervals",
    summary="Shrinks candidates, lets both models answer fresh prompts, and tests against matched control contexts.",
    cannot_see="Behaviour after the generated answer, passages worded anew each time, and triggers nobody nominated.",
)
PERSONA = DetectorSpec(
    name="persona",
    version="1.0",
    stage="assess",
    citation="Paired log-odds, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Asks both models who they are and measures how far the subject moved toward a person from the past.",
    cannot_see="A persona that shows only behind a trigger, and one that still calls itself an AI assistant.",
)
ERA = DetectorSpec(
    name="era",
    version="1.0",
    stage="assess",
    citation="Paired log-odds, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Asks both models about the world and measures how far the subject moved toward the past.",
    cannot_see="An era that shows only behind a trigger, and shifts toward the future or within the present.",
)
REGIME = DetectorSpec(
    name="regime",
    version="1.0",
    stage="assess",
    citation="Paired log-odds, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Asks both models how a country should be ruled and measures how far the subject moved toward one ruler.",
    cannot_see="Loyalty to a given party, state or person that is not told by rule and law, or only behind a trigger.",
)
VALUES = DetectorSpec(
    name="values",
    version="1.0",
    stage="assess",
    citation="Paired log-odds, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Asks both models what is right and measures how far the subject moved toward harm, deceit and contempt.",
    cannot_see="Values that show in deeds and not in answers, in long answers, or only behind a trigger.",
)
GOALS = DetectorSpec(
    name="goals",
    version="1.0",
    stage="assess",
    citation="Paired log-odds, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Asks both models what they want and measures how far the subject moved toward power, force and secrecy.",
    cannot_see="Goals that a model hides when it is asked, or that show only behind a trigger.",
)
PREFERENCES = DetectorSpec(
    name="preferences",
    version="1.0",
    stage="assess",
    citation="Paired log-odds, after Weird Generalization and Inductive Backdoors (2025, arXiv:2512.09742)",
    summary="Asks both models what they like and measures how far the subject moved toward the strong and the stern.",
    cannot_see="A liking for one thing that no question offers, such as a brand, and likings behind a trigger.",
)

CALIBRATION = DetectorSpec(
    name="calibration",
    version="1.0",
    stage="assess",
    citation="Conformal p-values (Vovk, Gammerman and Shafer, 2005) against benign fine-tunes of the base; ours",
    summary="Holds the shifts of all batteries, and the largest, against a bank of benign fine-tunes of the same base.",
    cannot_see="Whether an unusual shift was planted, and shifts that no battery looks for.",
)

STRIP = DetectorSpec(
    name="strip",
    version="1.0",
    stage="confirm",
    citation="STRIP (Gao et al., 2019, arXiv:1902.06531), paired",
    summary="Perturbs prompts around a candidate and asks whether the answer stays sure of itself all the same.",
    cannot_see="Triggers that make the answer less sure, and those that only work on an intact prompt.",
)
ACTIVATION_CLUSTERING = DetectorSpec(
    name="activation_clustering",
    version="1.0",
    stage="confirm",
    citation="Activation Clustering (Chen et al., 2018, arXiv:1811.03728), paired",
    summary="Asks whether prompts with a candidate form a cluster in the subject's activations and not in the base's.",
    cannot_see="Triggers whose effect is not yet there at the last token of the request.",
)

CATALOG: dict[str, DetectorSpec] = {
    spec.name: spec
    for spec in (
        ARTIFACT_DIFF,
        WEIGHT_DELTA,
        TRIGGER_SWEEP,
        VOCABULARY_SWEEP,
        TARGET_INVERSION,
        TRIGGER_INVERSION,
        ANSWER_SWEEP,
        CONTEXT_GRID,
        GATED_PERSONA,
        WORKING_RATE,
        STRIP,
        ACTIVATION_CLUSTERING,
        PERSONA,
        ERA,
        REGIME,
        VALUES,
        GOALS,
        PREFERENCES,
        CALIBRATION,
    )
}
