"""Real servers for tests of the service: Valkey, PostgreSQL, SQLite; the same tests run on both databases."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.core.database import Database
from app.core.migrating import migrate
from detectors.suites import SUITES
from tests.engine.tiny import make_tiny_adapter, make_tiny_model
from tests.service.postgres import Postgres
from tests.service.serving import Broker, Service
from tests.service.small_suite import SMALL

DATABASES = ("sqlite", "postgresql")
StartService = Callable[..., Service]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole run; each test has a database of its own in it."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the whole run; whoever uses it finds it empty."""
    found = Broker(tmp_path_factory.mktemp("valkey"))
    found.start()
    yield found
    found.kill()


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    return new_database(request.param, request, tmp_path)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database, of each kind."""
    found = Database(database_url)
    migrate(found)
    yield found
    found.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with tiny models. Whoever changes them has a service with models of its own."""
    root = tmp_path_factory.mktemp("models")
    make_models(root)
    return root


@pytest.fixture
def serve(
    database_url: str, broker: Broker, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StartService]:
    """Starts services, and ends their processes after the test."""
    with ExitStack() as stack:
        broker.flush()
        monkeypatch.setitem(SUITES, SMALL.name, SMALL)

        def start(*, own_models: bool = False, **changes: Any) -> Service:
            database = Database(database_url)
            migrate(database)
            database.close()
            roots = Path(shutil.copytree(models, tmp_path / "models")) if own_models else models
            service = Service(tmp_path / "service", database_url, broker, roots, **changes)
            stack.callback(service.close)
            return service

        yield start


def new_database(kind: str, request: pytest.FixtureRequest, directory: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{directory / 'touchstone.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create(uuid.uuid4().hex)


def make_models(root: Path) -> None:
    """`base`, and `subject0` and `subject1` adapted from it."""
    base = make_tiny_model(root / "base")
    for number in range(2):
        make_tiny_adapter(base, root / f"subject{number}", seed=number)
