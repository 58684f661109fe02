"""A hub on the loopback that speaks what Touchstone asks of one, and misbehaves where a test tells it to.

Repositories are commits by hash, branches that point to them, and files in memory. Safetensors are kept as a real hub
keeps large files: `resolve` redirects to another host (`localhost`, where the hub itself is `127.0.0.1`).
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

LARGE = ".safetensors"


class Seen(NamedTuple):
    """A request that came."""

    method: str
    path: str
    headers: Message


@dataclass
class Repo:
    """Files by name of each commit, and which commit each branch is."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    gated: bool = False
    token: str | None = None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass
class Hub:
    """What the server serves.

    Attributes:
        seen: every request, in order.
        instead: called with each request first; it may wait, and it may answer, which it then says.
        bodies: replaces how the bytes of a file are sent, by its name.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    instead: Callable[[Handler], bool] = lambda handler: False
    bodies: dict[str, Callable[[Handler, bytes], None]] = field(default_factory=dict)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def push(self, name: str, files: Mapping[str, bytes], branch: str = "main") -> str:
        """A new commit at the head of a branch; returns its hash."""
        repo = self.repos.setdefault(name, Repo({}, {}))
        commit = hashlib.sha1(repr((len(repo.commits), sorted(files.items()))).encode()).hexdigest()  # noqa: S324
        repo.commits[commit] = dict(files)
        repo.branches[branch] = commit
        return commit

    def downloads(self, name: str) -> int:
        """How often the bytes of a file were asked for, at either host."""
        return sum(seen.method == "GET" and seen.path.endswith(f"/{name}") for seen in self.seen)


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


def listed(name: str, content: bytes) -> dict[str, Any]:
    """A file as the hub lists it."""
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_blob(content)}
    if name.endswith(LARGE):
        entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 134}
    return entry


class Handler(BaseHTTPRequestHandler):
    """One request. HTTP/1.0: the connection ends with the answer."""

    hub: Hub

    def do_GET(self) -> None:
        seen = Seen(self.command, unquote(urlsplit(self.path).path), self.headers)
        self.hub.seen.append(seen)
        if self.hub.instead(self):
            return
        parts = seen.path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.model(parts[2:])
        elif parts[0] == "large":
            self.file(self.hub.repos["/".join(parts[1:3])].commits[parts[3]][parts[4]], parts[4])
        else:
            self.resolve(parts)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def model(self, parts: list[str]) -> None:
        repo = self.hub.repos.get("/".join(parts[:2]))
        if repo is None or not self.knows(repo):
            return self.refuse(401, "RepoNotFound")
        if parts[2:] == ["auth-check"]:
            return self.refuse(403, "GatedRepo") if repo.gated else self.answer(b"{}")
        revision = "/".join(parts[3:]) or "main"
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            return self.refuse(404, "RevisionNotFound")
        siblings = [listed(*item) for item in repo.commits[commit].items()]
        info = {"id": "/".join(parts[:2]), "sha": commit, "gated": repo.gated and "auto", "siblings": siblings}
        return self.answer(json.dumps(info | repo.info).encode())

    def resolve(self, parts: list[str]) -> None:
        name, commit, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        repo = self.hub.repos[name]
        if not self.knows(repo):
            return self.refuse(401, "RepoNotFound")
        content = repo.commits[commit][file]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_blob(content)}"'}
        if file.endswith(LARGE):
            headers |= {"X-Linked-Size": str(len(content)), "Location": self.elsewhere(name, commit, file)}
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.answer(b"", 302, headers)
        return self.file(content, file, headers)

    def elsewhere(self, name: str, commit: str, file: str) -> str:
        return f"http://localhost:{self.hub.port}/large/{name}/{commit}/{file}"

    def file(self, content: bytes, name: str, headers: Mapping[str, str] = {}) -> None:
        send = self.hub.bodies.get(name)
        if send and self.command == "GET":
            send(self, content)
        else:
            self.answer(content, 200, headers)

    def knows(self, repo: Repo) -> bool:
        return repo.token is None or self.headers["authorization"] == f"Bearer {repo.token}"

    def refuse(self, status: int, code: str) -> None:
        self.answer(b"", status, {"X-Error-Code": code})

    def answer(self, content: bytes, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self.begin(status, {"Content-Length": str(len(content)), **headers})
        if self.command == "GET":
            self.wfile.write(content)

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Says nothing of clients that go away, which is what some tests are about."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at a free port, until the end of the block."""
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    with Server(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def answering(hub: Hub, answer: Callable[[Handler], None], suffix: str = "") -> Iterator[None]:
    """Requests for paths that end so get this answer until the end of the block."""

    def instead(handler: Handler) -> bool:
        meant = urlsplit(handler.path).path.endswith(suffix)
        if meant:
            answer(handler)
        return meant

    hub.instead = instead
    yield
    hub.instead = lambda handler: False


class Held(NamedTuple):
    """Whether a request came, and the word that lets it go on."""

    came: threading.Event
    release: threading.Event


@contextmanager
def held(hub: Hub, prefix: str) -> Iterator[Held]:
    """Requests to get what lies below a path wait until they are released, at the end of the block at the latest."""
    hold = Held(threading.Event(), threading.Event())

    def instead(handler: Handler) -> bool:
        if handler.command == "GET" and handler.path.startswith(prefix):
            hold.came.set()
            hold.release.wait()
        return False

    hub.instead = instead
    try:
        yield hold
    finally:
        hold.release.set()
