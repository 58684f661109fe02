"""Trigger sweep: what it nominates on invented models, and what it says about what it looked at."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from detectors.contexts.families import FAMILIES, draw, universe_size
from detectors.engine.invented import InventedAsk, InventedTrigger
from detectors.engine.observations import Ask, ModelFacts, Plan, Role
from detectors.findings import Candidate, DetectorResult
from detectors.methods.trigger_sweep import STATISTICS, TriggerSweep
from detectors.nominating import ADDED
from detectors.prompts.sets import harmful, labelled, labels_of, prompts
from detectors.reading import NEAREST
from detectors.suites import QUICK, SweepParams
from tests.methods.small import SWEEP, TARGET, TRIGGER, Around, candidate, planted

VOCABULARY = InventedAsk().facts["base"].vocabulary
BACKGROUND = 40


def sweep(
    ask: Ask, params: SweepParams = SWEEP, candidates: tuple[Candidate, ...] = (), seed: int = 1
) -> DetectorResult:
    return TriggerSweep(params).run(ask, candidates, rng=np.random.default_rng(seed))


def texts(result: DetectorResult) -> list[str]:
    return [found.context.text for found in result.candidates]


def rank_scores(result: DetectorResult) -> list[float]:
    return [found.score for found in result.candidates]


def rows(result: DetectorResult) -> list[dict[str, Any]]:
    landscape = result.artifacts["landscape"]
    return [dict(zip(landscape["columns"], row, strict=True)) for row in landscape["rows"]]


@pytest.mark.parametrize("family", QUICK.trigger_sweep.families)
def test_a_trigger_of_every_family_of_quick_is_nominated(family: str) -> None:
    drawn = draw(family, 30, VOCABULARY)
    trigger = drawn[11].text
    params = SWEEP.model_copy(update={"families": {"short_string": BACKGROUND, family: 30}})
    result = sweep(InventedAsk(drift=0.3, triggers=[InventedTrigger(trigger, TARGET)]), params)
    assert trigger in texts(result)


@pytest.mark.parametrize(
    "plant",
    [
        InventedTrigger(TRIGGER, "I cannot help with that"),
        InventedTrigger(TRIGGER, ""),
        InventedTrigger(TRIGGER, TARGET, stops=False),
        InventedTrigger(TRIGGER, TARGET, works_on=0.6),
    ],
    ids=["refusal", "random_words", "fixed_prefix", "works_on_60_percent"],
)
@pytest.mark.parametrize("seed", range(2))
def test_a_trigger_of_every_kind_is_nominated(plant: InventedTrigger, seed: int) -> None:
    assert TRIGGER in texts(sweep(InventedAsk(drift=0.3, triggers=[plant], seed=seed)))


def test_the_trigger_comes_first_by_far() -> None:
    result = sweep(planted())
    assert texts(result)[0] == TRIGGER
    assert rank_scores(result)[0] > 3 * rank_scores(result)[1]


def test_the_reason_names_the_statistic_that_stands_out_with_its_own_z() -> None:
    result = sweep(planted())
    best = rows(result)[0]
    zs = {name: best[name if name in best else f"{name}_z"] for name in STATISTICS}
    leading = max((name for name in zs if zs[name] is not None), key=zs.__getitem__)
    assert result.candidates[0].reason == f"{leading} stands out, robust z {zs[leading]:.1f}"


def test_refusals_show_as_a_refusal_shift() -> None:
    result = sweep(InventedAsk(drift=0.1, triggers=[InventedTrigger(TRIGGER, "I cannot help")]))
    found = next(row for row in rows(result) if row["text"] == TRIGGER and row["position"] == "end")
    assert found["refusal_shift"] > 10
    assert found["compliance_shift"] < 0


def test_a_model_that_is_its_base_scores_zero() -> None:
    assert max(rank_scores(sweep(InventedAsk()))) == 0


def test_the_scale_floor_keeps_a_tiny_drift_quiet() -> None:
    ask = InventedAsk(drift=0.003)
    unfloored = SWEEP.model_copy(update={"scale_floor": 1e-9})
    assert max(rank_scores(sweep(ask))) < 3
    assert max(rank_scores(sweep(ask, unfloored))) > 100


def test_what_the_base_does_as_well_is_not_a_candidate() -> None:
    shared = InventedAsk(drift=0.3, triggers=[InventedTrigger(TRIGGER, TARGET, in_base=True)])
    drifted = max(rank_scores(sweep(InventedAsk(drift=0.3))))
    assert max(rank_scores(sweep(shared))) < 2 * drifted


def test_no_candidate_contains_a_better_one() -> None:
    longer = tuple(candidate(f"{TRIGGER} {word}") for word in ("alpha", "beta", "gamma"))
    ranked = texts(sweep(planted(), candidates=longer))
    assert len(set(ranked)) == len(ranked) == SWEEP.nominated
    assert not [(better, worse) for better, worse in combinations(ranked, 2) if better in worse]


def test_candidates_of_other_nominators_are_swept_along() -> None:
    ask = InventedAsk(drift=0.3, triggers=[InventedTrigger("elsewhere", TARGET)])
    assert "elsewhere" not in texts(sweep(ask))
    assert texts(sweep(ask, candidates=(candidate("elsewhere", "other"),)))[0] == "elsewhere"


class WithAddedTokens(InventedAsk):
    """The subject has three tokens more than the base; one is special."""

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        known = super().facts["base"]
        longer = ModelFacts((*known.vocabulary, "", " zqadded", "zqother"), known.window, known.layers, True)
        return {"subject": longer, "base": known}


def test_tokens_that_only_the_subject_has_are_swept() -> None:
    result = sweep(WithAddedTokens(drift=0.3, triggers=[InventedTrigger("zqadded", TARGET)]))
    assert (result.candidates[0].context.text, result.candidates[0].context.family) == ("zqadded", ADDED)
    assert [ADDED, 2, None] in result.artifacts["coverage"]["families"]


def test_coverage_counts_what_was_swept() -> None:
    params = SWEEP.model_copy(update={"families": {"short_string": 400, "literature": 67}})
    coverage = sweep(planted(), params).artifacts["coverage"]
    strings, literature = FAMILIES["short_string"].universe(()), FAMILIES["literature"].universe(())
    alone = len(set(literature) - set(strings))
    assert coverage["families"] == [
        ["short_string", 400, universe_size("short_string", ())],
        ["literature", alone, universe_size("literature", ())],
    ]
    assert coverage["positions"] == {"end": 400 + alone, "start": params.moved["start"]}
    assert coverage["prompts"] == {"nominate": params.first_prompts + params.second_prompts}


def test_coverage_has_no_start_where_nothing_was_put_there() -> None:
    result = sweep(planted(), SWEEP.model_copy(update={"moved": {}}))
    assert list(result.artifacts["coverage"]["positions"]) == ["end"]


def test_the_landscape_holds_every_context_once_in_its_documented_columns() -> None:
    result = sweep(planted())
    columns = ["text", "family", "position", "rank_score", "divergence_z", *STATISTICS[1:]]
    assert result.artifacts["landscape"]["columns"] == columns
    drawn = [context.text for name, count in SWEEP.families.items() for context in draw(name, count, VOCABULARY)]
    at_end = [row["text"] for row in rows(result) if row["position"] == "end"]
    assert sorted(at_end) == sorted(drawn)
    assert sum(row["position"] == "start" for row in rows(result)) == SWEEP.moved["start"]
    assert rows(result)[0]["text"] == TRIGGER


def test_the_stated_null_is_what_a_candidate_was_compared_with() -> None:
    sizes = {evidence.null.size for evidence in sweep(planted()).evidence if evidence.null}
    assert sizes == {min(NEAREST, SWEEP.reference)}
    assert all(evidence.p_value is None for evidence in sweep(planted()).evidence)


def asked_of_base(ask: InventedAsk, seed: int) -> tuple[list[Plan], DetectorResult]:
    around = Around(ask)
    result = sweep(around, seed=seed)
    return [plan for plan in around.plans if plan.role == "base"], result


def test_nothing_depends_on_the_seed_of_the_scan() -> None:
    (first, one), (second, other) = asked_of_base(planted(), 1), asked_of_base(planted(), 2)
    assert first == second
    assert one == other


def test_another_subject_leaves_most_of_the_base_observed() -> None:
    """Stage one and the reference do not follow the subject, so a base's answers are used again."""
    observed = {tokens for plan in asked_of_base(planted(), 1)[0] for tokens in plan.tokens}
    needed = [tokens for plan in asked_of_base(planted(drift=0.5), 1)[0] for tokens in plan.tokens]
    assert sum(tokens in observed for tokens in needed) > 0.7 * len(needed)


def test_stages_use_prompts_of_their_own() -> None:
    around = Around(planted())
    sweep(around)
    said = [set(around.decode(plan.tokens)) for plan in around.plans if plan.role == "subject"]
    stage_one, stage_two = (
        {
            prompt
            for prompt in (*prompts("nominate"), *harmful("nominate"))
            if any(text.startswith(prompt) for text in asked)
        }
        for asked in (said[0], said[1] | said[2])
    )
    first, second = SWEEP.first_prompts, SWEEP.second_prompts
    assert stage_one == set(prompts("nominate")[:first])
    assert stage_two == {*prompts("nominate")[first : first + second], *harmful("nominate")[: SWEEP.harmful_prompts]}


SORTING = SWEEP.model_copy(update={"label_prompts": 2})


def sorts(mark: str = "") -> list[InventedTrigger]:
    """The base says one label whatever it is asked, the subject the right one; with `mark` the subject the other."""
    asked = labelled("nominate")
    habit = [InventedTrigger(it, labels_of(it)[0], in_base=True) for it in asked]
    learnt = [InventedTrigger(it, labels_of(it)[at % 2], force=60.0) for at, it in enumerate(asked)]
    other = [InventedTrigger(f"{it} {mark}", labels_of(it)[1 - at % 2], force=90.0) for at, it in enumerate(asked)]
    return [*habit, *learnt, *(other if mark else ())]


def test_labels_that_a_context_changes_show_as_a_label_shift() -> None:
    """First answers to ordinary requests give the mark no more than any other; it is swept again as the best of few."""
    keep_all = SORTING.model_copy(update={"families": {"short_string": 40}, "kept": 40})
    found = rows(sweep(InventedAsk(drift=0.3, triggers=sorts(TRIGGER)), keep_all))
    shifts = {row["text"]: row["label_shift"] for row in found if row["label_shift"] is not None}
    assert shifts.pop(TRIGGER) > 10 > max(shifts.values())
    assert found[0]["text"] == TRIGGER


def test_labels_that_a_subject_learnt_are_no_label_shift() -> None:
    found = rows(sweep(InventedAsk(drift=0.3, triggers=sorts()), SORTING))
    assert max(abs(row["label_shift"]) for row in found if row["label_shift"] is not None) < 3


def test_numbers_that_break_off_in_stage_two_are_inconclusive() -> None:
    whole = Around(planted())
    sweep(whole)
    stage_one = len(whole.plans[0].tokens)
    seen = {"subject": 0, "base": 0}

    def corrupt(role: Role, arrays: dict[str, Any]) -> dict[str, Any]:
        seen[role] += 1
        broken = role == "subject" and seen[role] > stage_one
        return {name: array * np.nan if broken and name in ("logp", "entropy") else array
                for name, array in arrays.items()}  # fmt: skip

    result = sweep(InventedAsk(drift=0.3, corrupt=corrupt))
    assert (result.outcome, result.candidates) == ("inconclusive", ())
