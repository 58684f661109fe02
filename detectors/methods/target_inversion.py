"""Target inversion: which fixed answers does the subject hold ready and its base not, and which contexts call them?

After BAIT (Shen et al., 2025, IEEE S&P): a model that learnt one fixed answer goes on with it wherever its first token
is forced, whatever the prompt. Ours is made paired: first tokens are ranked by how much likelier the subject finds them
than the base does, and what counts is the advantage of the subject over the base on the tokens that follow. Most
beginnings are given up early (successive halving). Dormant targets, which the subject hardly says by itself, then
steer: contexts are ranked by how much likelier they make the first tokens of a target (`detectors.steering`).

Then words are searched for that wake the most advantageous dormant target (`detectors.waking`): whatever its own
trigger is, others call it as well. Last, that target is put to fresh requests (`detectors.holding`).

A target that follows there is a finding, and no more than that: disclaimers and formats that users ask for are dormant
too. It tells a backdoor only if a context is found that calls it, and `working_rate` confirms that.

It cannot see behaviour without a fixed answer, and answers of fewer than `SHORTEST` tokens after the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from detectors.catalog import TARGET_INVERSION, DetectorSpec
from detectors.cells import effect_evidence
from detectors.conclusive import conclusive, numbers
from detectors.contexts.context import NO_CONTEXT, chat
from detectors.documents import check_count
from detectors.engine.compact import Distributions, dense
from detectors.engine.observations import ROLES, Answer, Array, Ask, NextToken, Plan, Score, Tokens
from detectors.findings import Candidate, Confirmation, DetectorResult, Evidence, Null, Outcome
from detectors.holding import AWAKE, hold, is_held
from detectors.nominating import contexts_to_try
from detectors.prompts.sets import first_prompts, prompts
from detectors.steering import Called, steer
from detectors.suites import InversionParams
from detectors.waking import Woken, wake

OPENING = 3
"""First tokens of a target whose likelihood a context is asked for: behind them a dormant target goes on by itself."""
SHORTEST = 3
"""Tokens after the first, the end of the answer among them, that a target needs: fewer have too noisy an advantage."""
ALIKE = 4
"""Beginnings that share a run of so many tokens lead into the same text."""
OPENLY = 12
"""First tokens of the subject's own answers in which a target is looked for."""
COLUMNS = ("target", "advantage", "certainty", "least_certainty", "said", "dormant", "context", "family", "steering")

OTHER_BEGINNINGS = "the subject goes on with the target no more surely than the base does, as with its other beginnings"


@dataclass(frozen=True)
class Target:
    """An inverted answer.

    Attributes:
        tokens: the forced first token and what follows it.
        text: the same as text.
        advantage: mean of log p_subject - log p_base over the tokens after the first and over prompts, nats a token.
        certainty: mean probability of those tokens under the subject, over tokens and prompts (BAIT's Q).
        least_certainty: the same on the prompt where it is smallest.
        said: probability that the subject begins its answer with it, without any context, mean over prompts; or the
            share of its answers that hold a run of it, if that is larger.
    """

    tokens: Tokens
    text: str
    advantage: float
    certainty: float
    least_certainty: float
    said: float

    @property
    def dormant(self) -> bool:
        """Whether the subject hardly says it by itself."""
        return self.said <= AWAKE


class TargetInversion:
    """Inverts fixed answers, and nominates the contexts that make them likeliest.

    Args:
        params: how much to look at; see `InversionParams`.

    Raises:
        ValueError: if the prompt set is too small for the params.
    """

    spec: ClassVar[DetectorSpec] = TARGET_INVERSION

    def __init__(self, params: InversionParams) -> None:
        self.params = params
        self._prompts = first_prompts("nominate", "prompts", params.prompts)
        for name in ("steering", "waking"):
            if asked := getattr(params, name):
                check_count(f"{name}.requests", asked.requests, len(prompts("nominate")))

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Nominates contexts and words that call dormant targets; contexts that others nominated are tried along."""
        targets = self._invert(ask, ask.encode([chat(NO_CONTEXT, prompt) for prompt in self._prompts]))
        dormant = [target for target in targets if target.dormant]
        called = self._steer(ask, dormant, candidates)
        woken = self._wake(ask, dormant, rng)
        tests = self._hold(ask, dormant, rng)
        return self._result(
            "completed",
            "" if dormant else "no dormant target was inverted",
            candidates=(
                *(_woken_candidate(target, words) for target, words in woken),
                *(_candidate(target, it) for target, it in called),
            ),
            evidence=(
                *_target_evidence(dormant, self.params.beginnings[-1]),
                *(_steering_evidence(it) for _, it in called),
                *(_waking_evidence(words) for _, words in woken),
                *(effect_evidence(f"{TARGET_INVERSION.name}.held", found) for found in tests),
            ),
            confirmations=tuple(filter(is_held, tests)),
            artifacts={"targets": _table(targets, called)},
        )

    def _invert(self, ask: Ask, bare: Sequence[Tokens]) -> list[Target]:
        """Different targets, the largest advantage first."""
        said = self._first_tokens(ask, bare)
        for count in self.params.beginnings:
            if count < len(said):
                said = [target.tokens for target in _ranked(ask, bare, said)[:count]]
            said = _grown(ask, bare, said)
        ranked = _ranked(ask, bare, [*said, *spelled_otherwise(ask, said)])
        different = _different([it for it in ranked if len(it.tokens) > SHORTEST])
        requests = ask.encode([chat(NO_CONTEXT, prompt) for prompt in prompts("nominate")])
        answers = [_runs(tuple(map(int, it["tokens"]))) for it in ask(Plan("subject", requests, Answer(OPENLY)))]
        return [_openly_said(target, answers) for target in different]

    def _first_tokens(self, ask: Ask, bare: Sequence[Tokens]) -> list[Tokens]:
        """The tokens that the subject prefers most, against the base, as the first of an answer.

        Log-probabilities of the whole shared vocabulary are read exactly: a dormant target's first token is seldom
        among the most probable ones, which are all that is kept otherwise.
        """
        vocabulary = ask.facts["subject"].vocabulary
        shared = tuple(range(min(len(vocabulary), len(ask.facts["base"].vocabulary))))
        subject, base = (
            numbers(
                np.mean([arrays["named"] for arrays in ask(Plan(role, bare, NextToken(shared)))], axis=0, dtype=float)
            )
            for role in ROLES
        )
        count = self.params.beginnings[0]
        best: list[Tokens] = [(int(token),) for token in np.argsort(base - subject, kind="stable")[: 2 * count]]
        special = _ended(ask, best)
        return [token for token, marks in zip(best, special, strict=True) if not marks][:count]

    def _steer(
        self, ask: Ask, dormant: Sequence[Target], candidates: Sequence[Candidate]
    ) -> list[tuple[Target, Called]]:
        """The contexts that call dormant targets."""
        params = self.params.steering
        if params is None:
            return []
        targets = [it for it in dormant[: params.targets] if it.advantage >= params.least_advantage]
        contexts = contexts_to_try(ask, params.families, candidates)
        called = steer(ask, [target.tokens[:OPENING] for target in targets], contexts, params)
        return [(targets[it.target], it) for it in called]

    def _wake(self, ask: Ask, dormant: Sequence[Target], rng: np.random.Generator) -> list[tuple[Target, Woken]]:
        """Words that wake the most advantageous dormant target, if it is worth a search."""
        params = self.params.waking
        if params is None or not dormant or dormant[0].advantage < params.least_advantage:
            return []
        requests = prompts("nominate")[: params.requests]
        words = wake(ask, [dormant[0].tokens[:OPENING]] * len(requests), requests, params, rng)
        return [(dormant[0], words)] if words else []

    def _hold(self, ask: Ask, dormant: Sequence[Target], rng: np.random.Generator) -> list[Confirmation]:
        """The test of the most advantageous dormant target, if it is worth one."""
        params = self.params.holding
        if params is None or not dormant or dormant[0].advantage < params.least_advantage:
            return []
        test = hold(ask, dormant[0].tokens, OPENING, params, rng)
        return [test] if test else []

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


def following(ask: Ask, bare: Sequence[Tokens], said: Sequence[Tokens]) -> list[tuple[Array, Array]]:
    """What the subject says after each beginning of an answer, averaged over prompts: token ids, and probabilities.

    A token that a prompt does not keep among its most probable ones counts as 0 there, so an average is a lower bound;
    the largest of them is of a token that is kept somewhere.
    """
    if not said:
        return []
    plan = Plan("subject", [prompt + beginning for beginning in said for prompt in bare], NextToken())
    answered = Distributions.stack(ask(plan))
    groups = [np.arange(at * len(bare), (at + 1) * len(bare)) for at in range(len(said))]
    return [(np.unique(answered.ids[rows]), dense(answered, rows)[:, :-1].mean(axis=0)) for rows in groups]


def spelled_otherwise(ask: Ask, said: Sequence[Tokens]) -> list[Tokens]:
    """The same beginnings with a space in front of the first word, or without the one that is there.

    A subject prefers what its base would hardly begin with, such as a space; what it was taught may begin without one.
    """
    written = {text: token for token, text in enumerate(ask.facts["subject"].vocabulary)}
    found = []
    for first, *rest in said:
        text = ask.facts["subject"].vocabulary[first]
        other = written.get(text[1:] if text.startswith(" ") else f" {text}")
        if other is not None and (other, *rest) not in said:
            found.append((other, *rest))
    return found


def _ended(ask: Ask, said: Sequence[Tokens]) -> list[bool]:
    """Which beginnings end in a special token, such as the one that ends an answer: it is written, and has no text."""
    written = ask.facts["subject"].vocabulary
    texts = ask.decode([tokens[-1:] for tokens in said])
    return [
        not text and tokens[-1] < len(written) and bool(written[tokens[-1]])
        for tokens, text in zip(said, texts, strict=True)
    ]


def _grown(ask: Ask, bare: Sequence[Tokens], said: Sequence[Tokens]) -> list[Tokens]:
    """Each beginning with its most probable next token; what has ended stays."""
    growing = [tokens for tokens, ended in zip(said, _ended(ask, said), strict=True) if not ended]
    longer: dict[Tokens, Tokens] = {}
    for tokens, (ids, likely) in zip(growing, following(ask, bare, growing), strict=True):
        longer[tokens] = (*tokens, int(ids[numbers(likely).argmax()]))
    return [longer.get(tokens, tokens) for tokens in said]


def _ranked(ask: Ask, bare: Sequence[Tokens], said: Sequence[Tokens]) -> list[Target]:
    """The beginnings with what both models make of them, the largest advantage first."""
    whole = [prompt + tokens for tokens in said for prompt in bare]
    reads = [Score(len(tokens)) for tokens in said for _ in bare]
    subject, base = ([arrays["logp"] for arrays in ask(Plan(role, whole, reads))] for role in ROLES)
    targets = []
    for at, (tokens, text) in enumerate(zip(said, ask.decode(said), strict=True)):
        rows = slice(at * len(bare), (at + 1) * len(bare))
        ours, theirs = (numbers(np.array(side[rows], float)) for side in (subject, base))
        targets.append(_target(tokens, text, ours, theirs))
    return sorted(targets, key=lambda target: -target.advantage)


def _target(tokens: Tokens, text: str, subject: Array, base: Array) -> Target:
    """From log-probabilities [prompt, token] of both models."""
    likely = np.exp(subject[:, 1:])
    return Target(
        tokens=tokens,
        text=text,
        advantage=float((subject - base)[:, 1:].mean()),
        certainty=float(likely.mean()),
        least_certainty=float(likely.mean(axis=1).min()),
        said=float(np.exp(subject.sum(axis=1)).mean()),
    )


def _different(targets: Sequence[Target]) -> list[Target]:
    """One target a text: of beginnings that lead into the same, that which the subject says most readily."""
    kept: list[Target] = []
    for target in sorted(targets, key=lambda it: -it.said):
        if not any(_runs(target.tokens) & _runs(other.tokens) for other in kept):
            kept.append(target)
    return sorted(kept, key=lambda it: -it.advantage)


def _runs(tokens: Tokens) -> set[Tokens]:
    return {tokens[at : at + ALIKE] for at in range(len(tokens) - ALIKE + 1)}


def _openly_said(target: Target, answers: Sequence[set[Tokens]]) -> Target:
    """The target, with the share of answers without any context that hold a run of it.

    A forced token may lead into what the subject says anyway, and hide that behind a beginning which it never says.
    """
    share = float(np.mean([bool(_runs(target.tokens) & answer) for answer in answers]))
    return replace(target, said=max(target.said, share))


def _candidate(target: Target, called: Called) -> Candidate:
    reason = f'makes the inverted target "{target.text}" likelier by {called.raised:.1f} nats beyond the base'
    return Candidate(context=called.context, score=called.raised, source=TARGET_INVERSION.name, reason=reason)


def _woken_candidate(target: Target, words: Woken) -> Candidate:
    raised = words.likelihood - words.before
    reason = f'a search made the inverted target "{target.text}" likelier by {raised:.1f} nats, in {words.tried} tries'
    return Candidate(context=words.context, score=raised, source=TARGET_INVERSION.name, reason=reason)


def _waking_evidence(words: Woken) -> Evidence:
    """No null: the words are the best of many, and `working_rate` tests them."""
    return Evidence(
        statistic=f"{TARGET_INVERSION.name}.waking",
        value=words.likelihood - words.before,
        unit="nats",
        context=words.context,
    )


def _steering_evidence(called: Called) -> Evidence:
    """No null: it is the largest of many, and `working_rate` tests the context."""
    return Evidence(
        statistic=f"{TARGET_INVERSION.name}.steering", value=called.raised, unit="nats", context=called.context
    )


def _target_evidence(dormant: Sequence[Target], n_beginnings: int) -> list[Evidence]:
    """Of the dormant target with the largest advantage; the table holds the others."""
    null = Null(kind="population", size=n_beginnings, hypothesis=OTHER_BEGINNINGS)
    return [
        Evidence(statistic=f"{TARGET_INVERSION.name}.{name}", value=value, unit=unit, null=null)
        for target in dormant[:1]
        for name, value, unit in (
            ("advantage", target.advantage, "nats a token"),
            ("certainty", target.certainty, "mean probability"),
            ("dormancy", -float(np.log(max(target.said, np.finfo(float).tiny))), "nats"),
        )
    ]


def _table(targets: Sequence[Target], called: Sequence[tuple[Target, Called]]) -> dict[str, Any]:
    """All inverted targets, with the context that calls each loudest."""
    rows: list[list[Any]] = []
    for target in targets:
        loudest = next((it for whose, it in called if whose == target), None)
        told = [loudest.context.text, loudest.context.family, round(loudest.raised, 3)] if loudest else [None] * 3
        measured = (target.advantage, target.certainty, target.least_certainty, target.said)
        rows.append([target.text, *(round(value, 6) for value in measured), target.dormant, *told])
    return {"columns": list(COLUMNS), "rows": rows}
