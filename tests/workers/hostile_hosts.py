"""Model hosts that behave, and many that do not, as programs: `python hostile_hosts.py MODE SPEC`.

None loads a model: answers are invented, so that a host is up in a fraction of a second. Modes of `REAL` run the real
host's `main`, isolation included, with the model replaced.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from detectors.engine.invented import InventedAsk
from detectors.engine.observations import Arrays, Plan, read_from_json
from workers import host
from workers.protocol import json_frame, read_frame, tensor_frame

ASK = InventedAsk()
RETRAINED = InventedAsk(drift=0.3)
LAST_WORDS = "the dog ate my weights"


def serve(answer: Callable[[dict[str, Any]], bytes]) -> None:
    """Greets, then answers until the pipe is closed."""
    say(json_frame({"ready": True, "isolation": ["none at all"], "device": "cpu"}))
    while True:
        try:
            message = read_frame(lambda size: host._read_exactly(sys.stdin.buffer, size))
        except EOFError:
            return
        say(answer(message))


def say(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def honest(message: dict[str, Any]) -> bytes:
    if message["op"] == "observe":
        return tensor_frame(observe(message))
    if message["op"] == "weigh":
        return tensor_frame([RETRAINED.weights.to_arrays()])
    if message["op"] == "encode":
        return json_frame(ASK.encode(message["chats"]))
    if message["op"] == "tokenize":
        return json_frame([[1] for _ in message["texts"]])
    if message["op"] == "decode":
        return json_frame(ASK.decode(message["sequences"]))
    return json_frame(vars(ASK.facts["base"]))


def observe(message: dict[str, Any]) -> list[Arrays]:
    reads = [read_from_json(kind, fields) for kind, fields in message["reads"]]
    return [ASK(Plan("base", [tuple(ids)], reads[which]))[0] for ids, which in message["requests"]]


def spoiled(spoil: Callable[[Arrays], Arrays]) -> Callable[[], None]:
    """Serves with every observation changed, and texts as they are."""

    def answer(message: dict[str, Any]) -> bytes:
        if message["op"] != "observe":
            return honest(message)
        return tensor_frame([spoil(dict(arrays)) for arrays in observe(message)])

    return lambda: serve(answer)


def bytes_for(data: bytes) -> Callable[[], None]:
    """Serves the same bytes, whatever is asked."""
    return lambda: serve(lambda message: data)


def crash(message: dict[str, Any] | None = None) -> bytes:
    print(LAST_WORDS, file=sys.stderr, flush=True)
    os._exit(7)


def crash_midway(message: dict[str, Any]) -> bytes:
    say(honest(message)[:-10])
    return crash()


def die(message: dict[str, Any]) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def sleep(message: dict[str, Any] | None = None) -> bytes:
    time.sleep(600)
    return b""


def close_and_sleep(message: dict[str, Any]) -> bytes:
    os.close(1)
    return sleep()


def deaf() -> None:
    say(json_frame({"ready": True, "isolation": [], "device": "cpu"}))
    sleep()


def chatter(message: dict[str, Any]) -> bytes:
    sys.stderr.write("x" * 3_000_000)
    sys.stderr.flush()
    return honest(message)


def leave_a_child(message: dict[str, Any], *, stdout: int | None = None) -> bytes:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=stdout)
    print(f"child {child.pid}", file=sys.stderr, flush=True)
    os._exit(7)


def as_json(message: dict[str, Any]) -> bytes:
    lists = [{name: array.tolist() for name, array in arrays.items()} for arrays in observe(message)]
    return json_frame(lists)


def real(message: dict[str, Any], *_: object) -> bytes:
    """Tries what a host must not be able to do, and tells how that went."""
    print("a library prints", flush=True)
    port, directory = message["chats"]
    trials = {
        "network": lambda: socket.create_connection(("127.0.0.1", port), timeout=2).close(),
        "write": lambda: Path(directory, "written").write_text("content"),
        "append": lambda: append(Path(directory, "there")),
    }
    told = {name: attempt(trial) for name, trial in trials.items()}
    return json_frame({"trials": told, "environment": dict(os.environ), "pid": os.getpid()})


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def attempt(trial: Callable[[], object]) -> str:
    try:
        trial()
    except OSError as error:
        return f"refused: {error}"
    return "allowed"


def real_main() -> None:
    """The real host with another model and other answers."""
    model = SimpleNamespace(network=SimpleNamespace(device="cpu"))
    host._load = lambda spec: (model, None)  # type: ignore[assignment, return-value]
    host._answer = real
    sys.argv = sys.argv[:1] + sys.argv[2:]
    host.main()


MODES: dict[str, Callable[[], None]] = {
    "honest": lambda: serve(honest),
    "crash_at_start": lambda: crash() and None,
    "hang_at_start": lambda: sleep() and None,
    "greet_wrongly": lambda: say(json_frame(["hello"])) or (sleep() and None),
    "greet_in_part": lambda: say(json_frame({"ready": True})) or (sleep() and None),
    "crash": lambda: serve(crash),
    "crash_midway": lambda: serve(crash_midway),
    "die": lambda: serve(die),
    "hang": lambda: serve(sleep),
    "deaf": deaf,
    "close_and_sleep": lambda: serve(close_and_sleep),
    "print_first": lambda: serve(lambda message: b"loading... done\n" + honest(message)),
    "garbage": bytes_for(b"\xff" * 64),
    "absurd_length": bytes_for(b"T" + (1 << 62).to_bytes(8, "big")),
    "no_tensors": bytes_for(b"T" + (5).to_bytes(8, "big") + b"tensor"[:5]),
    "no_json": bytes_for(b"J" + (1).to_bytes(8, "big") + b"{"),
    "deep_json": bytes_for(b"J" + (100_000).to_bytes(8, "big") + b"[" * 100_000),
    "numbers": bytes_for(json_frame([1, 2, 3])),
    "as_json": lambda: serve(as_json),
    "null": bytes_for(json_frame(None)),
    "infinite_facts": bytes_for(json_frame({"vocabulary": [], "window": 1e999, "layers": 1, "chat_template": True})),
    "huge_ids": bytes_for(json_frame([[2**31]])),
    "no_texts": bytes_for(json_frame([])),
    "refuse": bytes_for(json_frame({"error": "TS-ERR-121", "message": "x" * 5000})),
    "one_less": lambda: serve(lambda message: tensor_frame(observe(message)[:-1])),
    "one_more": lambda: serve(lambda message: tensor_frame(observe(message) + observe(message)[:1])),
    "wrong_numbering": lambda: serve(lambda message: tensor_frame([{}, *observe(message)])),
    "wrong_dtype": spoiled(lambda arrays: arrays | {"entropy": arrays["entropy"].astype(np.float64)}),
    "wrong_shape": spoiled(lambda arrays: arrays | {"logp": arrays["logp"][:-1]}),
    "wrong_name": spoiled(lambda arrays: {f"{name}s": array for name, array in arrays.items()}),
    "nan": spoiled(lambda arrays: arrays | {"logp": arrays["logp"] * np.nan, "entropy": arrays["entropy"] * np.nan}),
    "chatter": lambda: serve(chatter),
    "leave_a_child": lambda: serve(leave_a_child),
    "leave_a_quiet_child": lambda: serve(partial(leave_a_child, stdout=subprocess.DEVNULL)),
    "real": real_main,
}

if __name__ == "__main__":
    json.loads(sys.argv[2])
    MODES[sys.argv[1]]()
