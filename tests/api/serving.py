"""A real API on a real port, with its database within reach."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select, update

from app.api.depends import Services
from app.core.database import Database, clock
from app.core.keys import Scope, create_key
from app.core.scans import keep_report, new_id
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.tables import Scan, Table
from app.main import create_app
from detectors.report import Decision, Report


@dataclass(frozen=True)
class Api:
    """A served API.

    Attributes:
        url: where it listens.
        database: the same that it uses, by a connection of its own.
    """

    url: str
    settings: Settings
    services: Services
    database: Database

    def key(self, *scopes: Scope, expires: float | None = None) -> str:
        """The text of a new key."""
        with self.database.writing() as session:
            return create_key(session, "test", scopes, expires)[1]

    def client(self, *scopes: Scope, **headers: str) -> httpx.Client:
        """A client with a new key of these scopes; without scopes, without a key."""
        if scopes:
            headers["Authorization"] = f"Bearer {self.key(*scopes)}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def change(self, scan_id: str, **values: Any) -> None:
        """What a worker would write."""
        with self.database.writing() as session:
            session.execute(update(Scan).where(Scan.id == scan_id).values(version=Scan.version + 1, **values))

    def finish(self, scan_id: str, report: Report, decision: Decision, **values: Any) -> str:
        """Ends a scan with a report, whose digest it is."""
        data = report.model_dump_json().encode()
        digest = Blobs(self.settings.blobs).put(data)
        with self.database.writing() as session:
            keep_report(session, digest, scan_id, len(data))
        ended = {"state": "succeeded", "started": clock(), "ended": clock(), "verdict": decision.verdict}
        self.change(scan_id, report_digest=digest, **ended | values)
        return digest

    def scan(self, scan_id: str) -> Scan:
        """A scan's row."""
        with self.database.reading() as session:
            return session.get_one(Scan, scan_id)

    def count(self) -> int:
        """How many scans there are."""
        with self.database.reading() as session:
            return len(session.scalars(select(Scan.id)).all())


PATIENCE_S = 60.0
"""No server takes as long to end."""


@contextmanager
def served(
    settings: Settings, prepare: Callable[[FastAPI], object] = lambda _: None, *, tables: bool = True
) -> Iterator[Api]:
    """An API in a thread of this process, on a free port.

    Args:
        settings: its own.
        prepare: changes it before it is served.
        tables: whether to make them.
    """
    database = Database(settings.database)
    if tables:
        Table.metadata.create_all(database.engine)
    api = create_app(settings)
    prepare(api)
    server = uvicorn.Server(uvicorn.Config(api, log_config=None, timeout_graceful_shutdown=2))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so only for sockets it makes
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            yield Api(url, settings, api.state.services, database)
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            database.close()
        assert not thread.is_alive()


def row(key_id: str, created: float, **values: Any) -> Scan:
    """A scan as it is after it was submitted."""
    fields: dict[str, Any] = {
        "id": new_id(),
        "created": created,
        "key_id": key_id,
        "queue": "people",
        "model": "amber",
        "suite": "smoke",
        "suite_digest": "0" * 64,
        "policy": "default",
        "labels": [],
        "seed": 0,
        "expected": [],
        "scanner_version": "0",
        "state": "queued",
    }
    return Scan(**fields | values)
