"""A house for every test; a module that names both databases gets one on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.rules.house import House, opened
from tests.service.conftest import new_database, postgres

__all__ = ["postgres"]


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    url = new_database(getattr(request, "param", "sqlite"), request, tmp_path)
    with opened(tmp_path, database_url=url) as one:
        yield one
