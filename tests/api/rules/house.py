"""A service on a database of its own, and the scans that workers would have left in it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from httpx import Response
from sqlalchemy import select, update
from starlette.testclient import TestClient

from app.core import scans
from app.core.database import Database, clock
from app.core.deciding import verdict_to_write
from app.core.keys import Scope, create_key
from app.core.migrating import migrate
from app.core.registries.resolving import resolve
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.tables import Audit, Key, Redecision, Scan, ShareLink, State, Suppression
from app.main import create_app
from detectors.report import Report
from tests.render import sample

DAY = 24 * 3600.0
VIEWS = 30
"""Share links that an address may open in a minute."""
SUBJECT, BASE = "a1" * 32, "b2" * 32
CONTENTS = {SUBJECT: "c1" * 32, BASE: "c2" * 32}
TIMES = {
    Scan: ("created", "started", "ended"),
    Key: ("created", "expires", "revoked"),
    Suppression: ("created", "expires", "revoked"),
    ShareLink: ("created", "expires", "revoked"),
    Redecision: ("due",),
    Audit: ("at",),
}


def report(kind: str = "suspicious", subject: str = SUBJECT, base: str = BASE, **changes: Any) -> Report:
    """A sample report about files with these digests."""
    made, _ = getattr(sample, kind)()
    cards = {
        "subject": made.subject.model_copy(update={"file_digest": subject}),
        "base": made.base.model_copy(update={"file_digest": base}),
    }
    return made.model_copy(update=cards | changes)


@dataclass
class House:
    """A service: its parts, its API, and keys by scope."""

    settings: Settings
    database: Database
    blobs: Blobs
    api: TestClient
    keys: dict[str, Key] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, scope: str = "admin", **options: Any) -> Response:
        """A request with a key of that scope."""
        headers = {"Authorization": f"Bearer {self.texts[scope]}"} | options.pop("headers", {})
        return self.api.request(method, path, headers=headers, **options)

    def get(self, path: str, scope: str = "report:read", **params: Any) -> Any:
        """The JSON of a successful answer."""
        answer = self.call("GET", path, scope, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def model(self, name: str) -> str:
        """A directory below the root, so that a reference to it can be resolved."""
        path = self.settings.roots[0] / name
        if not path.exists():
            path.mkdir(parents=True)
            (path / "config.json").write_text("{}")
        return str(path)

    def scan(
        self,
        found: Report | None = None,
        *,
        model: str | None = None,
        base: str | None = None,
        policy: str = "default",
        state: State = "succeeded",
        days_ago: float = 0.0,
        **values: Any,
    ) -> str:
        """A scan as a worker leaves it, with its report if it has one; its id."""
        wish = scans.Wish(model or self.model("amber"), base or self.model("base"), "quick", policy, 0, (), ())
        pins = {name: resolve(str(getattr(wish, name)), self.settings) for name in ("model", "base")}
        subject_digest = found.subject.file_digest if found else SUBJECT
        base_digest = found.base.file_digest if found else BASE
        facts = {
            "state": state,
            "subject_pin": pins["model"].model_dump(),
            "subject_revision": pins["model"].revision,
            "base_pin": pins["base"].model_dump(),
            "subject_digest": subject_digest,
            "base_digest": base_digest,
            "subject_content": CONTENTS.get(subject_digest, subject_digest),
            "base_content": CONTENTS.get(base_digest, base_digest),
        }
        with self.database.writing() as session:
            scan, _ = scans.submit(session, wish, self.keys["admin"].id)
            session.flush()
            if found is not None:
                data = found.model_dump_json(indent=1).encode()
                digest = self.blobs.put(data)
                scans.keep_report(session, digest, scan.id, len(data))
                verdict = verdict_to_write(session, found, policy)
                facts |= {"report_digest": digest, "verdict": verdict, "ended": clock() - days_ago * DAY}
            session.execute(update(Scan).where(Scan.id == scan.id).values(facts | values))
            return scan.id

    def read(self, scan_id: str) -> Scan:
        """A scan's row."""
        with self.database.reading() as session:
            return session.get_one(Scan, scan_id)

    def audited(self, action: str) -> list[Audit]:
        """What the log says of an action, the oldest first."""
        with self.database.reading() as session:
            return list(session.scalars(select(Audit).where(Audit.action == action).order_by(Audit.id)))

    def pass_days(self, days: float) -> None:
        """As if so much time had passed: whatever is kept is so much older."""
        with self.database.writing() as session:
            for table, names in TIMES.items():
                columns = {name: getattr(table, name) - days * DAY for name in names}
                session.execute(update(table).values(columns))

    def drop_blob(self, scan_id: str) -> Path:
        """Damages the report of a scan; the file."""
        digest = str(self.read(scan_id).report_digest)
        path = Path(self.settings.blobs) / digest[:2] / digest
        path.rename(path.with_suffix(".gone"))
        return path


@contextmanager
def opened(tmp_path: Path, **settings: Any) -> Iterator[House]:
    """A house, on SQLite unless the settings name another database, with a key for each scope."""
    (tmp_path / "models").mkdir()
    given: dict[str, Any] = {
        "data_dir": tmp_path / "data",
        "cache_dir": tmp_path / "cache",
        "roots": (tmp_path / "models",),
        "broker_url": "redis://127.0.0.1:1/0",
        "views_per_minute": VIEWS,
        "failures_per_minute": 1_000,
    }
    made = Settings(**given | settings)
    database = Database(made.database)
    migrate(database)
    try:
        with TestClient(create_app(made), client=("192.0.2.7", 4711)) as api:
            house = House(made, database, Blobs(made.blobs), api)
            for scope in ("admin", "report:read", "scan:write"):
                add_key(house, scope)
            yield house
    finally:
        database.close()


def add_key(house: House, scope: Scope | str, name: str | None = None) -> None:
    """One more key, under its scope or under a name."""
    with house.database.writing() as session:
        key, text = create_key(session, name or scope, [scope], None)  # type: ignore[list-item]  # a scope by its text
    house.keys[name or scope], house.texts[name or scope] = key, text


def touch(directory: str) -> None:
    """Changes what a directory is pinned to, without changing a byte of it."""
    file = Path(directory) / "config.json"
    times = file.stat()
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000_000))


def sha256(text: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()
