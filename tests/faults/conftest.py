"""The real servers of the service's tests, and figures that a run of the faults prints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.service.conftest import broker, database_url, postgres, serve

__all__ = ["broker", "database_url", "postgres", "serve"]

Note = Callable[[str, float, str], None]
FIGURES = pytest.StashKey[list[tuple[str, str, float, str]]]()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Notes a figure of this test with the floor or ceiling that it must hold."""
    figures = request.config.stash.setdefault(FIGURES, [])

    def keep(what: str, value: float, must: str) -> None:
        figures.append((request.node.name, what, value, must))

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(FIGURES, [])
    if not figures:
        return
    terminalreporter.section("figures of the faults")
    for test, what, value, must in figures:
        terminalreporter.write_line(f"{test:68} {what:36} {value:10.2f}   must be {must}")
