"""Dry runs: what would a scan ask, and how long would this machine take?

The detectors run on invented answers that show nothing, while what they ask is encoded by the real tokenizer and looked
up in the real store. One message is really computed, to learn the speed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from detectors.calibration import Bank
from detectors.contexts.context import Message
from detectors.engine.invented import nothing
from detectors.engine.observations import Arrays, ModelFacts, NextToken, Plan, Role, Tokens
from detectors.engine.shipped import ChatAt, ModelFiles, Rendering
from detectors.engine.update import WeightUpdate
from detectors.suites import Suite
from workers.observer import Observer
from workers.runner import run_detectors

SAMPLE_SEQUENCES = 100
REQUEST_TOKENS = 30
"""Length of a usual request."""


class Estimator:
    """An `ask` that counts what an observer would have to compute, and answers that nothing stands out."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.forward_tokens = 0
        self.generated_tokens = 0
        self.speed = 0.0

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        """The real models' facts."""
        return self._observer.facts

    def __call__(self, plan: Plan) -> list[Arrays]:
        """Counts the plan and answers it with what shows nothing."""
        if not self.speed and plan.tokens:
            self.speed = self._measure(plan)
        forward, generated = self._observer.price(plan)
        self.forward_tokens += forward
        self.generated_tokens += generated
        return [nothing(read, tokens) for read, tokens in zip(plan.reads(), plan.tokens, strict=True)]

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        """Real token ids."""
        return self._observer.encode(chats)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Real token ids."""
        return self._observer.tokenize(texts)

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        """Real texts."""
        return self._observer.decode(sequences)

    @property
    def files(self) -> Mapping[Role, ModelFiles]:
        """The real models' files."""
        return self._observer.files

    @property
    def bank(self) -> Bank | None:
        """The real one."""
        return self._observer.bank

    @property
    def weights(self) -> WeightUpdate:
        """The real difference of the models' weights."""
        return self._observer.weights

    def render(self, role: Role, chats: Sequence[ChatAt]) -> list[Rendering]:
        """Real renderings."""
        return self._observer.render(role, chats)

    def _measure(self, plan: Plan) -> float:
        """Tokens a second, on a few of the sequences that are still unknown."""
        sample = Plan("subject", plan.tokens[:SAMPLE_SEQUENCES], NextToken(named=(0,)))
        tokens, _ = self._observer.price(sample)
        started = time.monotonic()
        self._observer(sample)
        return max(tokens, 1) / (time.monotonic() - started) if tokens else self._observer.message_tokens / 2


def estimate(observer: Observer, suite: Suite, memory_bytes: int) -> dict[str, Any]:
    """What a scan costs where no candidate needs confirming; each one that does adds `confirming_tokens`.

    Args:
        observer: of the pair to scan.
        memory_bytes: what both hosts take.
    """
    _ = observer.facts
    started = time.monotonic()
    estimator = Estimator(observer)
    run_detectors(suite, estimator, seed=0)
    overhead = time.monotonic() - started
    params = suite.working_rate
    return {
        "contexts": sum(suite.trigger_sweep.families.values()),
        "forward_tokens": estimator.forward_tokens,
        "generated_tokens": estimator.generated_tokens,
        "minutes": round((estimator.forward_tokens / estimator.speed + overhead) / 60, 1),
        "memory_bytes": memory_bytes,
        "confirming_tokens": 5 * params.confirm_prompts * (params.confirm_tokens + REQUEST_TOKENS)
        + round(suite.corroborating_work) * REQUEST_TOKENS,
    }
