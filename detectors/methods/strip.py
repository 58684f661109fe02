"""STRIP: is the answer under a candidate sure of itself, whatever happens to the prompt?

STRong Intentional Perturbation (Gao et al., 2019, arXiv:1902.06531): half of an input's words are replaced
by words of other inputs, several times over. A clean answer becomes unsure with its prompt; one that a trigger
dictates does not, so the mean entropy over the copies is low. The mean is over the *copies of one input*, which gives
one value an input; a mean over inputs, as in some public code, is another statistic.

Where ours differs: answers are texts, so an entropy is the mean over the first `READ` answer tokens, teacher-forced on
the answer that the same model gave to the unperturbed prompt. And it is paired, each prompt with a control context:

    (subject at control - subject at candidate) - (base at control - base at candidate)

tested by sign flips over inputs, with Holm (1979) over the candidates. It cannot see triggers that make the answer less
sure, or that need the whole prompt.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, product
from typing import Any, ClassVar, Literal

import numpy as np

from detectors.answering import EXCHANGEABLE, Placed, matched
from detectors.catalog import STRIP, WORKING_RATE, DetectorSpec
from detectors.conclusive import conclusive, numbers
from detectors.contexts.context import Context, chat
from detectors.corroborating import (
    NO_CANDIDATE,
    table_of_tests,
    to_corroborate,
)
from detectors.engine.compact import entropy_of_mean
from detectors.engine.observations import ROLES, Answer, Array, Arrays, Ask, Plan, Role, Tokens, Trace
from detectors.findings import Candidate, DetectorResult, Evidence, Null, Outcome
from detectors.prompts.sets import first_prompts, prompts
from detectors.stats import sign_flip
from detectors.suites import StripParams

Condition = Literal["candidate", "control"]
CONDITIONS: tuple[Condition, ...] = ("candidate", "control")

READ = 8
"""Answer tokens that are read."""
SURE = float(np.log(0.99))
"""Log-probability above which a token is locked."""
PERTURBATION_SEED = "strip/1"
"""Belongs to the detector, never to a scan, so that a base's observations last."""


@dataclass(frozen=True)
class Reading:
    """What one model does on one input under one context.

    Attributes:
        entropies: [copy], mean entropy over the answer's tokens of each perturbed copy, nats.
        agreement: entropy of the mean distribution over copies, mean over tokens, nats.
        lock: longest run of answer tokens with a top probability above 0.99, on the unperturbed input.
    """

    entropies: Array
    agreement: float
    lock: int


@dataclass(frozen=True)
class _Cell:
    """One input under one context: the unperturbed request and its perturbed copies, as token ids."""

    whole: Tokens
    copies: list[Tokens]


Key = tuple[int, Condition, int]
"""Candidate, condition, input."""


class Strip:
    """Corroborates candidates by how sure answers stay when their prompts are perturbed.

    Args:
        params: how many candidates, inputs and copies; see `StripParams`.

    Raises:
        ValueError: if there are not that many prompts.
    """

    spec: ClassVar[DetectorSpec] = STRIP

    def __init__(self, params: StripParams) -> None:
        self.params = params
        self._inputs = first_prompts("confirm", "inputs", params.inputs)

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Tests what `working_rate` sent to confirmation, or shows the best nominated candidate."""
        chosen = to_corroborate(candidates, self.params.candidates)
        if not chosen:
            return self._result("completed", NO_CANDIDATE)
        cells = self._cells(ask, chosen)
        answers = {role: self._answers(ask, role, chosen, cells) for role in ROLES}
        _check_numbers(arrays for found in answers.values() for arrays in found.values())
        said = {role: {key: _first(arrays) for key, arrays in found.items()} for role, found in answers.items()}
        inputs = [self._answered(at, said) for at in range(len(chosen))]
        if not any(inputs):
            return self._result("inconclusive", "on every input a model answered nothing")
        kept = [key for key in cells if key[2] in inputs[key[0]]]
        traces = {role: _traces(ask, role, [(cells[key], said[role][key]) for key in kept]) for role in ROLES}
        _check_numbers(arrays for found in traces.values() for arrays in chain(*found))
        readings = {role: dict(zip(kept, map(_read, found), strict=True)) for role, found in traces.items()}
        return self._told([_Tested(it.context, at, inputs[at], readings) for at, it in enumerate(chosen)], rng)

    def _cells(self, ask: Ask, chosen: Sequence[Candidate]) -> dict[Key, _Cell]:
        vocabulary = ask.facts["base"].vocabulary
        placed: list[Placed] = []
        for found in chosen:
            placed += [(found.context, text) for text in self._inputs]
            placed += matched(found.context, self._inputs, vocabulary)
        chats = [
            chat(context, text)
            for context, prompt in placed
            for text in (prompt, *perturbed(prompt, self.params.copies))
        ]
        ids, size = ask.encode(chats), 1 + self.params.copies
        cells = [_Cell(ids[at], ids[at + 1 : at + size]) for at in range(0, len(ids), size)]
        return dict(zip(product(range(len(chosen)), CONDITIONS, range(len(self._inputs))), cells, strict=True))

    def _answers(self, ask: Ask, role: Role, chosen: Sequence[Candidate], cells: dict[Key, _Cell]) -> dict[Key, Arrays]:
        """Greedy answers to the unperturbed inputs, asked for as `working_rate` did where it did."""
        lengths = [self.params.answer_tokens if it.source == WORKING_RATE.name else READ for it in chosen]
        plan = Plan(role, [cell.whole for cell in cells.values()], [Answer(lengths[key[0]]) for key in cells])
        return dict(zip(cells, ask(plan), strict=True))

    def _answered(self, candidate: int, said: dict[Role, dict[Key, Tokens]]) -> list[int]:
        """The inputs on which both models said something under the candidate and under its control."""
        return [
            place
            for place in range(len(self._inputs))
            if all(said[role][candidate, condition, place] for role, condition in product(ROLES, CONDITIONS))
        ]

    def _told(self, tested: Sequence[_Tested], rng: np.random.Generator) -> DetectorResult:
        evidence = tuple(chain.from_iterable(_evidence(it, rng) for it in tested if it.inputs))
        missing = sum(len(self._inputs) - len(it.inputs) for it in tested)
        return self._result(
            "completed",
            f"{missing} of {len(tested) * len(self._inputs)} inputs left out: a model answered nothing"
            if missing
            else "",
            evidence=evidence,
            artifacts={"entropies": _entropies(tested), "tests": table_of_tests(evidence)},
        )

    def _result(self, outcome: Outcome, reason: str = "", **fields: Any) -> DetectorResult:
        return self.spec.result(outcome, reason, params=self.params.model_dump(), **fields)


@dataclass(frozen=True)
class _Tested:
    """A candidate, its number, the inputs that count, and the readings of all candidates."""

    context: Context
    candidate: int
    inputs: list[int]
    readings: dict[Role, dict[Key, Reading]]

    def differences(self, value: Callable[[Reading], float]) -> Array:
        """Control minus candidate, subject minus base: float [input]."""
        cells = {
            (role, condition): np.array(
                [value(self.readings[role][self.candidate, condition, place]) for place in self.inputs]
            )
            for role, condition in product(ROLES, CONDITIONS)
        }
        subject, base = (cells[role, "control"] - cells[role, "candidate"] for role in ROLES)
        paired: Array = subject - base
        return paired


def perturbed(prompt: str, copies: int) -> list[str]:
    """Copies of a prompt in which half of the words are words of other confirm prompts, the same in every scan."""
    donors = [word for other in prompts("confirm") if other != prompt for word in other.split(" ")]
    words = prompt.split(" ")
    found = []
    for copy in range(copies):
        draw = random.Random(f"{PERTURBATION_SEED}/{prompt}/{copy}")
        replaced = dict.fromkeys(draw.sample(range(len(words)), (len(words) + 1) // 2))
        found.append(" ".join(draw.choice(donors) if at in replaced else word for at, word in enumerate(words)))
    return found


def _first(arrays: Arrays) -> Tokens:
    return tuple(map(int, arrays["tokens"][:READ]))


def _traces(ask: Ask, role: Role, cells: Sequence[tuple[_Cell, Tokens]]) -> list[list[Arrays]]:
    """For each cell the traces of its answer behind the unperturbed request and behind its copies."""
    sequences = [request + said for cell, said in cells for request in (cell.whole, *cell.copies)]
    reads = [Trace(len(said)) for cell, said in cells for _ in (cell.whole, *cell.copies)]
    traced = iter(ask(Plan(role, sequences, reads)))
    return [list(islice(traced, 1 + len(cell.copies))) for cell, _ in cells]


def _read(traces: Sequence[Arrays]) -> Reading:
    """The reading of one cell from its traces, the unperturbed one first."""
    whole, copies = traces[0], traces[1:]
    ids, logp = (np.stack([trace[name] for trace in copies], axis=1) for name in ("ids", "logp"))  # [token, copy, top]
    return Reading(
        entropies=np.array([trace["entropy"].mean(dtype=float) for trace in copies]),
        agreement=float(np.mean([entropy_of_mean(*token) for token in zip(ids, logp, strict=True)])),
        lock=longest_run(whole["logp"][:, 0] > SURE),
    )


def longest_run(flags: Array) -> int:
    """How many of `flags` in a row are true at most."""
    return max((sum(1 for _ in run) for flag, run in groupby(flags) if flag), default=0)


def _check_numbers(observed: Iterable[Arrays]) -> None:
    for arrays in observed:
        for array in arrays.values():
            numbers(array)


def _evidence(tested: _Tested, rng: np.random.Generator) -> Iterator[Evidence]:
    entropy = tested.differences(lambda reading: float(reading.entropies.mean()))
    agreement = tested.differences(lambda reading: reading.agreement)
    lock = tested.differences(lambda reading: -reading.lock)
    nats = "nats a token, doubly paired"
    p_value, _ = sign_flip(entropy, rng=rng)
    yield Evidence(
        statistic=f"{STRIP.name}.entropy",
        value=float(entropy.mean()),
        unit=nats,
        null=Null(kind="sign_flip", size=len(entropy), hypothesis=EXCHANGEABLE),
        p_value=p_value,
        context=tested.context,
    )
    for name, unit, found in (("agreement", nats, agreement), ("lock", "tokens, doubly paired", lock)):
        yield Evidence(statistic=f"{STRIP.name}.{name}", value=float(found.mean()), unit=unit, context=tested.context)


def _entropies(tested: Sequence[_Tested]) -> dict[str, Any]:
    """The entropy of every copy."""
    rows = [
        [it.context.text, it.context.position, role, condition, place, copy, round(float(entropy), 5)]
        for it, role, condition in product(tested, ROLES, CONDITIONS)
        for place in it.inputs
        for copy, entropy in enumerate(it.readings[role][it.candidate, condition, place].entropies)
    ]
    return {"columns": ["text", "position", "model", "condition", "input", "copy", "entropy"], "rows": rows}
