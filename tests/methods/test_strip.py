"""STRIP: against a plain second implementation, on subjects that drift, and on triggers it should and cannot see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from detectors.conclusive import NOT_FINITE
from detectors.contexts.context import Context, chat
from detectors.contexts.families import controls
from detectors.corroborating import NO_CANDIDATE
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Answer, Arrays, Ask, Role, Trace
from detectors.findings import DetectorResult
from detectors.methods.strip import READ, Strip, longest_run, perturbed
from detectors.methods.working_rate import WorkingRate
from detectors.prompts.sets import prompts
from detectors.stats import holm, sign_flip
from detectors.suites import QUICK, StripParams
from tests.methods.small import (
    MARKS,
    RATE,
    STRIPPED,
    TARGET,
    TRIGGER,
    Around,
    candidate,
    not_numbers,
    planted,
    table,
    values,
)
from tests.methods.test_statistics import ALLOWED, random_marks

FEW_COPIES = STRIPPED.model_copy(update={"copies": 2})
NULL_SEEDS, POWER_SEEDS = range(20), range(10)


def strip(ask: Ask, *texts: str, params: StripParams = STRIPPED, source: str = "working_rate") -> DetectorResult:
    given = tuple(candidate(text, source=source) for text in texts)
    return Strip(params).run(ask, given, rng=np.random.default_rng(0))


def plainly(ask: InventedAsk, text: str, params: StripParams) -> tuple[list[float], list[float], list[float]]:
    """The three differences of each input, one number at a time, from probabilities of the whole vocabulary."""
    context = Context(text=text, family="short_string")
    texts = prompts("confirm")[: params.inputs]
    against = controls(context, params.inputs, ())
    entropy, agreement, lock = [], [], []
    for place, prompt in enumerate(texts):
        cells: dict[tuple[Role, str], tuple[float, float, float]] = {}
        for role in ("subject", "base"):
            for name, around in (("candidate", context), ("control", against[place])):
                cells[role, name] = one_cell(ask, role, around, prompt, params.copies)
        for which, found in enumerate((entropy, agreement, lock)):
            gaps = [cells[role, "control"][which] - cells[role, "candidate"][which] for role in ("subject", "base")]
            found.append(gaps[0] - gaps[1])
    return entropy, agreement, lock


def one_cell(ask: InventedAsk, role: Role, around: Context, prompt: str, copies: int) -> tuple[float, float, float]:
    (whole,) = ask.encode([chat(around, prompt)])
    said: list[int] = []
    while len(said) < READ:
        logp = ask._logp(role, (*whole, *said))
        if int(np.argmax(logp)) == 0:
            break
        said.append(int(np.argmax(logp)))
    longest = run = 0
    for length in range(len(said)):
        sure = max(np.exp(ask._logp(role, (*whole, *said[:length])))) > 0.99
        run = run + 1 if sure else 0
        longest = max(longest, run)
    requests = ask.encode([chat(around, copy) for copy in perturbed(prompt, copies)])
    single, joint = 0.0, 0.0
    for length in range(len(said)):
        tables = [np.exp(ask._logp(role, (*request, *said[:length]))) for request in requests]
        single += sum(plain_entropy(one) for one in tables) / copies
        joint += plain_entropy([sum(column) / copies for column in zip(*tables, strict=True)])
    return single / len(said), joint / len(said), -longest


def plain_entropy(probabilities: Sequence[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def test_it_is_what_a_plain_implementation_finds() -> None:
    params = StripParams(candidates=2, inputs=4, copies=3, answer_tokens=8)
    ask = planted(drift=1.0)
    result = strip(ask, MARKS[1], TRIGGER, params=params)
    for text in (MARKS[1], TRIGGER):
        entropy, agreement, lock = plainly(ask, text, params)
        assert values(result, "entropy")[text] == pytest.approx(np.mean(entropy), abs=1e-5)
        assert values(result, "lock")[text] == np.mean(lock)
        # 64 tokens of each distribution are kept: the entropy of a mean is a little off the exact one
        assert values(result, "agreement")[text] == pytest.approx(np.mean(agreement), abs=0.25)
        (evidence,) = (it for it in result.evidence if it.context and it.context.text == text and it.null)
        assert evidence.p_value == sign_flip(np.array(entropy), rng=np.random.default_rng(0))[0]
        assert evidence.null is not None
        assert (evidence.null.kind, evidence.null.size) == ("sign_flip", params.inputs)


def test_its_tables_hold_every_copy_and_the_corrected_tests() -> None:
    result = strip(planted(), *MARKS[:2], TRIGGER)
    found = table(result, "entropies")
    assert list(found[0]) == ["text", "position", "model", "condition", "input", "copy", "entropy"]
    assert len(found) == 3 * 2 * 2 * STRIPPED.inputs * STRIPPED.copies
    means = {
        (model, condition): np.mean([
            row["entropy"]
            for row in found
            if (row["text"], row["model"], row["condition"]) == (TRIGGER, model, condition)
        ])
        for model in ("subject", "base")
        for condition in ("candidate", "control")
    }  # fmt: skip
    gaps = [means[model, "control"] - means[model, "candidate"] for model in ("subject", "base")]
    assert gaps[0] - gaps[1] == pytest.approx(values(result, "entropy")[TRIGGER], abs=1e-4)
    tests = table(result, "tests")
    tested = [row for row in tests if row["p_value"] is not None]
    assert [row["statistic"] for row in tested] == ["strip.entropy"] * 3
    assert [row["p_holm"] for row in tested] == holm([row["p_value"] for row in tested])
    assert all(row["p_holm"] is None for row in tests if row["p_value"] is None)


def test_p_values_of_subjects_that_drift_are_not_too_small() -> None:
    """60 contexts that do nothing, on 20 subjects."""
    p_values = []
    for seed in NULL_SEEDS:
        result = strip(InventedAsk(drift=1.0, seed=seed), *random_marks(seed, 3), params=FEW_COPIES)
        p_values += [it.p_value for it in result.evidence if it.p_value is not None]
    assert len(p_values) == 3 * len(NULL_SEEDS)
    for level in (0.01, 0.05, 0.2):
        assert sum(p_value <= level for p_value in p_values) <= binom.isf(ALLOWED, len(p_values), level)
    assert np.mean(np.array(p_values) < 0.5) > 0.2  # the null is tried: they are spread


def test_a_trigger_that_dictates_the_answer_gets_nearly_the_smallest_p_there_is() -> None:
    """On ten subjects, with two copies: of 256 sign patterns at most four are as large."""
    for seed in POWER_SEEDS:
        (tested,) = (it for it in strip(planted(seed=seed), TRIGGER, params=FEW_COPIES).evidence if it.null)
        assert tested.p_value is not None
        assert tested.p_value <= 4 * 2.0**-STRIPPED.inputs


def test_what_the_base_does_as_well_is_not_seen() -> None:
    both = InventedAsk(0.3, [InventedTrigger(TRIGGER, TARGET, in_base=True)])
    assert values(strip(planted(), TRIGGER), "entropy")[TRIGGER] > 1.0
    assert abs(values(strip(both, TRIGGER), "entropy")[TRIGGER]) < 0.2


def test_a_trigger_of_random_words_is_not_seen() -> None:
    """As the page says: the answer gets less sure, and the value falls."""
    assert values(strip(InventedAsk(0.3, [InventedTrigger(TRIGGER, "")]), TRIGGER), "entropy")[TRIGGER] < 0


def test_copies_replace_half_of_the_words_by_words_of_other_prompts() -> None:
    everything = {word for prompt in prompts("confirm") for word in prompt.split(" ")}
    for prompt in prompts("confirm"):
        copies = perturbed(prompt, 10)
        assert copies == perturbed(prompt, 12)[:10]
        assert len(set(copies)) == 10
        for copy in copies:
            pairs = list(zip(prompt.split(" "), copy.split(" "), strict=True))
            changed = sum(before != after for before, after in pairs)
            assert len(pairs) / 2 - 2 <= changed <= (len(pairs) + 1) / 2  # a donor may be the same word
            assert set(copy.split(" ")) <= everything
    assert any(one != two for one, two in pairwise(perturbed(prompts("confirm")[0], 3)))


def test_copies_keep_the_context_whole_and_are_the_same_for_candidate_and_control() -> None:
    around = Around(planted())
    strip(around, TRIGGER)
    traced = next(plan for plan in around.plans if isinstance(plan.reads()[0], Trace))
    reads = [read.n_tokens for read in traced.reads() if isinstance(read, Trace)]
    requests = [ids[:-size] for ids, size in zip(traced.tokens, reads, strict=True)]
    texts = [text.rsplit(" ", 1) for text in around.decode(requests)]
    half = len(texts) // 2
    assert half == STRIPPED.inputs * (1 + STRIPPED.copies)
    assert {context for _, context in texts[:half]} == {TRIGGER}
    assert [prompt for prompt, _ in texts[:half]] == [prompt for prompt, _ in texts[half:]]
    assert len({context for _, context in texts[half:]}) == STRIPPED.inputs


def test_it_reads_the_answers_that_working_rate_was_given() -> None:
    around = Around(planted())
    rate = RATE.model_copy(update={"confirm_prompts": 24})
    sent = WorkingRate(rate).run(around, [candidate(TRIGGER)], rng=np.random.default_rng(0)).candidates
    known = {
        (plan.role, ids, read) for plan in around.plans for ids, read in zip(plan.tokens, plan.reads(), strict=True)
    }
    around.plans.clear()
    Strip(STRIPPED.model_copy(update={"answer_tokens": rate.confirm_tokens})).run(
        around, sent, rng=np.random.default_rng(0)
    )
    answers = [plan for plan in around.plans if isinstance(plan.reads()[0], Answer)]
    assert len(answers) == 2
    assert all((plan.role, ids, plan.reads()[0]) in known for plan in answers for ids in plan.tokens)


def test_without_what_working_rate_sent_one_is_shown_and_answered_shortly() -> None:
    around = Around(planted())
    result = strip(around, MARKS[1], TRIGGER, source="trigger_sweep", params=QUICK.strip or STRIPPED)
    assert {row["text"] for row in table(result, "tests")} == {MARKS[1]}
    assert set(around.plans[0].reads()) == {Answer(READ)}


def test_no_candidates_is_a_result() -> None:
    result = strip(planted())
    assert (result.outcome, result.reason, result.evidence) == ("completed", NO_CANDIDATE, ())


def test_inputs_without_an_answer_are_left_out_and_counted() -> None:
    seen = {"subject": 0, "base": 0}

    def corrupt(role: Role, arrays: Arrays) -> Arrays:
        if "stopped" not in arrays:
            return arrays
        seen[role] += 1
        silent = role == "subject" and seen[role] in (2, STRIPPED.inputs + 3)
        return {name: array[: 0 if silent and name != "stopped" else None] for name, array in arrays.items()}

    result = strip(InventedAsk(0.3, [InventedTrigger(TRIGGER, TARGET)], corrupt=corrupt), TRIGGER)
    assert result.reason == f"2 of {STRIPPED.inputs} inputs left out: a model answered nothing"
    assert {row["input"] for row in table(result, "entropies")} == {0, 3, 4, 5, 6, 7}
    (tested,) = (it for it in result.evidence if it.null)
    assert tested.null is not None
    assert tested.null.size == 6
    assert tested.p_value == 2.0**-6


def test_silence_everywhere_is_inconclusive() -> None:
    def corrupt(role: Role, arrays: Arrays) -> Arrays:
        return {name: array[: None if name == "stopped" else 0] for name, array in arrays.items()}

    result = strip(InventedAsk(0.3, corrupt=corrupt), TRIGGER)
    assert (result.outcome, result.evidence) == ("inconclusive", ())
    assert "answered nothing" in result.reason


@pytest.mark.parametrize("kind", ["entropy", "stopped"])
@pytest.mark.parametrize("role", ["subject", "base"])
def test_answers_and_traces_that_are_not_numbers_are_inconclusive(kind: str, role: Role) -> None:
    def corrupt(whose: Role, arrays: Arrays) -> Arrays:
        return not_numbers(arrays) if whose == role and kind in arrays else arrays

    result = strip(InventedAsk(0.3, corrupt=corrupt), TRIGGER)
    assert (result.outcome, result.reason, result.evidence) == ("inconclusive", NOT_FINITE, ())


@pytest.mark.parametrize(("flags", "longest"), [("", 0), ("0", 0), ("1", 1), ("110111", 3), ("1101", 2), ("000", 0)])
def test_the_longest_run(flags: str, longest: int) -> None:
    assert longest_run(np.array([flag == "1" for flag in flags], bool)) == longest


def test_too_few_prompts_name_the_param() -> None:
    with pytest.raises(ValueError, match="`inputs` must be at most 64, got 65"):
        Strip(STRIPPED.model_copy(update={"inputs": 65}))


def test_a_plan_never_mixes_models() -> None:
    around = Around(planted())
    strip(around, TRIGGER)
    assert [(plan.role, type(plan.reads()[0])) for plan in around.plans] == [
        ("subject", Answer), ("base", Answer), ("subject", Trace), ("base", Trace),
    ]  # fmt: skip
