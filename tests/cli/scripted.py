"""A service that answers as a test tells it, over real HTTP on this machine, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "ts_k3y-for-tests"
SCAN = "5c" * 16


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """One answer; a body that is no bytes is sent as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """What goes over the wire."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class ScriptedService:
    """Answers by `METHOD /path`, each list from its beginning; its last answer again and again."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def on(self, what: str, *answers: Any) -> None:
        """What to answer; plain JSON is an answer with status 200."""
        self.answers[what] = [it if isinstance(it, Answer) else Answer(it) for it in answers]

    def paths(self) -> list[str]:
        """What was asked, in order."""
        return [f"{it.method} {it.path.partition('?')[0]}" for it in self.asked]

    def reply(self, asked: Asked) -> Answer:
        """The next answer."""
        self.asked.append(asked)
        if asked.headers.get("Authorization") != f"Bearer {KEY}":
            return problem(401, "TS-ERR-602", "no valid API key was given")
        script = self.answers.get(f"{asked.method} {asked.path.partition('?')[0]}")
        if not script:
            return problem(404, "TS-ERR-604", f"there is no {asked.path}")
        return script.pop(0) if len(script) > 1 else script[0]


def problem(status: int, code: str, detail: str) -> Answer:
    """A problem document (RFC 9457)."""
    return Answer({"code": code, "title": "A problem.", "detail": detail}, status)


def status(state: str, verdict: str | None = None, **fields: Any) -> dict[str, Any]:
    """What a service says of a scan."""
    progress = {"done": 1.0, "total": 4.0, "phase": "sweep", "eta_s": 90.0}
    return {"id": SCAN, "state": state, "verdict": verdict, "progress": progress} | fields


def events(*statuses: dict[str, Any]) -> Answer:
    """A stream of events."""
    body = "".join(f"id: {number}\ndata: {json.dumps(it)}\n\n" for number, it in enumerate(statuses))
    return Answer(body.encode(), headers={"Content-Type": "text/event-stream"})


@contextmanager
def scripted() -> Iterator[ScriptedService]:
    """The running service."""
    service = ScriptedService()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(service.reply)) as server:
        service.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


def _handler(reply: Callable[[Asked], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            answer = reply(Asked(self.command, self.path, dict(self.headers), body))
            data = answer.encoded()
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(len(data))} | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = answer  # the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    return Handler
