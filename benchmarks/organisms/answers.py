"""The base's own answers, which members are trained to keep: generated once, kept for all members."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from app.core.files import write_atomically
from benchmarks.organisms.carriers import Prompt
from benchmarks.organisms.train import Model
from detectors.contexts.context import NO_CONTEXT, chat


class UsualAnswers:
    """Answers to requests: the one that a request comes with, or the base's own.

    Args:
        model: the base, with or without an adapter.
        file: where the base's answers are kept.
        max_tokens: their length.
    """

    def __init__(self, model: Model, file: Path, max_tokens: int) -> None:
        self._model, self._file, self._max_tokens = model, file, max_tokens

    def __call__(self, prompts: Sequence[Prompt]) -> list[str]:
        """One answer a prompt."""
        known = self._read()
        new = sorted({prompt.text for prompt in prompts if prompt.answer is None} - known.keys())
        if new:
            with self._model.as_base():
                chats = [chat(NO_CONTEXT, text) for text in new]
                known |= dict(zip(new, self._model.answers(chats, self._max_tokens), strict=True))
            write_atomically(self._file, json.dumps(self._read() | known))
        return [known[prompt.text] if prompt.answer is None else prompt.answer for prompt in prompts]

    def _read(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return found
