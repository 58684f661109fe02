"""The process that holds one untrusted model and answers observation requests.

It has no store, no database, no secrets; it reads frames from standard input and answers on standard output. Its parent
decides under which key an answer is kept.

    python -m workers.host '{"directory": ..., "adapter": ..., "tokenizer": ..., "dtype": ..., ...}'
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workers.isolation import isolate
from workers.protocol import json_frame, read_frame, tensor_frame

if TYPE_CHECKING:
    from detectors.engine.forward import Engine
    from detectors.engine.loading import LoadedModel
    from detectors.engine.observations import Arrays


def main() -> None:
    """Isolates the process, loads the model, and serves until the parent closes the pipe."""
    spec = json.loads(sys.argv[1])
    requests, answers = sys.stdin.buffer, _private_stdout()
    isolation = isolate(spec["memory_limit_bytes"])
    model, engine = _load(spec)
    _send(answers, json_frame({"ready": True, "isolation": isolation, "device": str(model.network.device)}))
    while True:
        try:
            message = read_frame(lambda size: _read_exactly(requests, size))
        except EOFError:
            return
        _send(answers, _answer(message, model, engine))


def _private_stdout() -> BinaryIO:
    """The pipe to the parent; whatever a library prints goes to standard error instead."""
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private


def _load(spec: dict[str, Any]) -> tuple[LoadedModel, Engine]:
    from detectors.engine.forward import Engine
    from detectors.engine.loading import load_model

    model = load_model(
        Path(spec["directory"]),
        adapter=Path(spec["adapter"]) if spec["adapter"] else None,
        tokenizer=Path(spec["tokenizer"]),
        template=spec["template"],
        dtype=spec["dtype"],
        device=spec["device"],
        threads=spec["threads"],
    )
    engine = Engine(
        model.network,
        stop_ids=model.stop_ids,
        window=model.window,
        memory_budget=spec["memory_budget_bytes"],
    )
    return model, engine


def _answer(message: dict[str, Any], model: LoadedModel, engine: Engine) -> bytes:
    """One answer. An input error is the request's fault and is told; anything else ends the process."""
    from detectors.engine.batches import Query
    from detectors.engine.observations import read_from_json
    from detectors.errors import InputError

    try:
        if message["op"] == "observe":
            read = [read_from_json(kind, fields) for kind, fields in message["reads"]]
            queries = [Query(tuple(ids), read[which]) for ids, which in message["requests"]]
            return tensor_frame(engine.observe(queries))
        if message["op"] == "weigh":
            return tensor_frame([_weighed(message["files"])])
        if message["op"] == "encode":
            return json_frame([model.encode(messages) for messages in message["chats"]])
        if message["op"] == "tokenize":
            return json_frame([model.tokenize(text) for text in message["texts"]])
        if message["op"] == "decode":
            return json_frame([model.decode(tuple(ids)) for ids in message["sequences"]])
        return json_frame(vars(model.facts()))
    except InputError as error:
        return json_frame({"error": error.code, "message": str(error)})


def _weighed(files: dict[str, Any]) -> Arrays:
    """Imported here: what decomposes matrices takes a second to import, and most hosts are never asked."""
    from detectors.engine.checkpoint import WeightFiles
    from detectors.engine.weights import weigh

    return weigh(WeightFiles.from_json(files)).to_arrays()


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _send(stream: BinaryIO, frame: bytes) -> None:
    stream.write(frame)
    stream.flush()


if __name__ == "__main__":
    main()
