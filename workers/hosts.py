"""The parent's side of model hosts: starting, asking, timing out and ending them.

A host is asked in messages of some seconds of work; while it answers, the parent watches for a cancelled scan. A host
that crashes, hangs or answers nonsense is ended and a `HostError` says so; its parent lives on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from detectors.contexts.context import Message
from detectors.engine.checkpoint import WeightFiles
from detectors.engine.observations import Arrays, ModelFacts, Read, Request, Tokens, check, read_to_json
from detectors.engine.update import WeightUpdate, from_arrays
from detectors.errors import ContextTooLong, HostError, InputError, TemplateError
from workers.protocol import json_frame, read_frame

START_SECONDS = 300.0
MESSAGE_SECONDS = 300.0
WEIGH_SECONDS = 1800.0
"""All tensors of two large models are read and decomposed for one answer."""
POLL_SECONDS = 0.1
JOIN_SECONDS = 2.0
LAST_LINES = 12
LINE_BYTES = 500
MAX_ID = 2**31


@dataclass(frozen=True)
class HostSpec:
    """What a host is started with.

    Attributes:
        directory: full model, or the adapter's base.
        adapter: LoRA adapter to merge, if any.
        tokenizer: directory of the tokenizer.
        template: the chat template, if there is one.
        memory_budget_bytes: caches and activations of one batch.
        memory_limit_bytes: address space of the process; 0 for none.
    """

    directory: Path
    adapter: Path | None
    tokenizer: Path
    template: str | None
    dtype: str
    device: str
    threads: int
    memory_budget_bytes: int
    memory_limit_bytes: int

    def as_json(self) -> str:
        """The host's command line argument."""
        return json.dumps(
            {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}
        )


class Host:
    """One running model host.

    Args:
        spec: what it holds.
        environment: the whole environment of the process; nothing is inherited.
        watch: called while waiting; may raise to stop waiting (cancellation).
        command: how the process is started; tests put misbehaving hosts here.
        message_seconds: how long one answer may take before the host counts as hung.
    """

    def __init__(
        self,
        spec: HostSpec,
        environment: dict[str, str],
        watch: Callable[[], None],
        *,
        command: Sequence[str] = (sys.executable, "-m", "workers.host"),
        message_seconds: float = MESSAGE_SECONDS,
    ) -> None:
        self._watch = watch
        self._message_seconds = message_seconds
        self._process = subprocess.Popen(
            [*command, spec.as_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._requests, self._answers, log = self._pipes()
        self._last_words: deque[bytes] = deque(maxlen=LAST_LINES)
        self._reader = threading.Thread(target=_drain, args=(log, self._last_words), daemon=True)
        self._reader.start()
        self.isolation: tuple[str, ...] = ()
        self.device = ""

    def greet(self) -> None:
        """Waits until the model is loaded; every question does it first, so several hosts can load side by side.

        Raises:
            HostError: if it does not come to that; the process is ended.
        """
        if self.device:
            return
        try:
            hello = self._receive(time.monotonic() + START_SECONDS, START_SECONDS)
            self.isolation = tuple(str(step)[:200] for step in hello["isolation"])
            self.device = str(hello["device"])[:50]
        except BaseException as error:
            self.end()
            if isinstance(error, KeyError | TypeError):
                raise HostError("the model host's greeting is not one; the model cannot be scanned") from error
            raise

    def watch_with(self, watch: Callable[[], None]) -> None:
        """From now on calls `watch` while waiting: another scan uses this host."""
        self._watch = watch

    @property
    def sound(self) -> bool:
        """Whether it runs and has answered all that it was asked."""
        return self._process.poll() is None

    def observe(self, requests: Sequence[Request]) -> list[Arrays]:
        """One observation a request, checked to be what was asked for."""
        reads: list[Read] = list(dict.fromkeys(request.read for request in requests))
        which = {read: index for index, read in enumerate(reads)}
        answers = self._ask(
            op="observe",
            reads=[read_to_json(read) for read in reads],
            requests=[(request.tokens, which[request.read]) for request in requests],
        )
        if not _are_observations(answers) or len(answers) != len(requests):
            raise HostError(f"the model host did not answer {len(requests)} requests with as many observations")
        return [check(request.read, arrays) for request, arrays in zip(requests, answers, strict=True)]

    def weigh(self, files: WeightFiles) -> WeightUpdate:
        """How the subject's weights differ from the base's; either model's host can say."""
        answers = self._ask(within=max(self._message_seconds, WEIGH_SECONDS), op="weigh", files=files.to_json())
        if not _are_observations(answers) or len(answers) != 1:
            raise HostError("the model host did not sum up the weights")
        return from_arrays(answers[0])

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        """Token ids of chats."""
        answer = self._ask(op="encode", chats=list(chats))
        if not isinstance(answer, list) or len(answer) != len(chats) or not all(_are_ids(ids) for ids in answer):
            raise HostError("the model host did not answer chats with token ids")
        return [tuple(ids) for ids in answer]

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of plain texts, none of them empty."""
        answer = self._ask(op="tokenize", texts=list(texts))
        if not isinstance(answer, list) or len(answer) != len(texts) or not all(_are_ids(ids) for ids in answer):
            raise HostError("the model host did not answer texts with token ids")
        return [tuple(ids) for ids in answer]

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        """Texts of token ids."""
        answer = self._ask(op="decode", sequences=list(sequences))
        if not _are_texts(answer) or len(answer) != len(sequences):
            raise HostError("the model host did not answer token ids with texts")
        return [_writable(text) for text in answer]

    def facts(self) -> ModelFacts:
        """What the host tells of its model."""
        answer = self._ask(op="facts")
        try:
            return ModelFacts(
                vocabulary=tuple(_writable(str(text)[:200]) for text in answer["vocabulary"]),
                window=int(answer["window"]),
                layers=int(answer["layers"]),
                chat_template=bool(answer["chat_template"]),
            )
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise HostError("the model host's facts about its model cannot be read") from error

    def end(self) -> None:
        """Ends the process, and whatever it started, at once and waits for it."""
        if self._process.returncode is None:  # nobody waited for it yet, so its number is still its own
            self._kill_group()
        self._process.wait()
        self._reader.join(JOIN_SECONDS)
        for stream in (self._requests, self._answers):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        process = self._process
        return cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout), cast(IO[bytes], process.stderr)

    def _ask(self, within: float | None = None, **message: Any) -> Any:
        self.greet()
        seconds = within or self._message_seconds
        deadline = time.monotonic() + seconds
        try:
            self._send(json_frame(message), deadline, seconds)
            answer = self._receive(deadline, seconds)
        except (BrokenPipeError, ValueError) as error:
            raise HostError(self._epitaph()) from error
        except BaseException:
            self.end()  # in the middle of an answer: nobody may take the rest of it for an answer of his own
            raise
        if isinstance(answer, dict) and "error" in answer:
            raise _input_error(answer)
        return answer

    def _send(self, frame: bytes, deadline: float, seconds: float) -> None:
        """Writes without blocking: a host that reads no more must not hold its parent."""
        stream, left = self._requests.fileno(), memoryview(frame)
        os.set_blocking(stream, False)
        while left:
            self._wait(deadline, seconds)
            if select.select([], [stream], [], POLL_SECONDS)[1]:
                with contextlib.suppress(BlockingIOError):
                    left = left[os.write(stream, left) :]

    def _receive(self, deadline: float, seconds: float) -> Any:
        return read_frame(lambda size: self._read_exactly(size, deadline, seconds))

    def _read_exactly(self, size: int, deadline: float, seconds: float) -> bytes:
        stream = self._answers.fileno()
        parts, missing = [], size
        while missing:
            self._wait(deadline, seconds)
            if not select.select([stream], [], [], POLL_SECONDS)[0]:
                continue
            part = os.read(stream, min(missing, 1 << 20))
            if not part:
                raise HostError(self._epitaph())
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _wait(self, deadline: float, seconds: float) -> None:
        self._watch()
        if time.monotonic() > deadline:
            self.end()
            raise HostError(f"the model host did not answer within {seconds:.0f} s and was ended")

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _epitaph(self) -> str:
        try:
            code = self._process.wait(JOIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            return "the model host closed its pipe without a word and was ended"
        self._kill_group()
        died = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
        self._reader.join(JOIN_SECONDS)
        last = b"".join(self._last_words).decode(errors="replace").strip()
        return f"the model host {died}; its last words: {ascii(last[-600:]) if last else 'none'}"


def _drain(log: IO[bytes], last: deque[bytes]) -> None:
    """Reads what a host prints, so that its pipe never fills, and keeps the end."""
    with log:
        while line := log.readline(LINE_BYTES):
            last.append(line)


def _are_observations(value: Any) -> bool:
    """Whether it came as tensors; the same in JSON would have lists for arrays."""
    return isinstance(value, list) and all(
        isinstance(arrays, dict) and all(isinstance(array, np.ndarray) for array in arrays.values()) for arrays in value
    )


def _writable(text: str) -> str:
    """The text with half surrogate pairs spelled out: JSON may hold them, no file may."""
    return text.encode("utf-8", "backslashreplace").decode()


def _are_ids(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(type(token) is int and 0 <= token < MAX_ID for token in value)
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _input_error(answer: dict[str, Any]) -> InputError:
    kinds = {error.code: error for error in (ContextTooLong, TemplateError)}
    return kinds.get(str(answer["error"]), InputError)(str(answer.get("message", ""))[:1000])
