"""The real servers of the service's tests, and figures that a run of the faults prints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.service.conftest import broker, database_url, models, postgres, serve

__all__ = ["broker", "database_url", "models", "postgres", "serve"]

AtMost = Callable[[str, float, float], None]
FIGURES = pytest.StashKey[list[tuple[str, str, float, float]]]()


@pytest.fixture
def at_most(request: pytest.FixtureRequest) -> AtMost:
    """Notes a figure of this test for the table, and that it is no more than it may be."""
    figures = request.config.stash.setdefault(FIGURES, [])

    def check(what: str, value: float, ceiling: float) -> None:
        figures.append((request.node.name, what, value, ceiling))
        assert value <= ceiling, what

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of all figures."""
    figures = config.stash.get(FIGURES, [])
    if not figures:
        return
    terminalreporter.section("figures of the faults")
    for test, what, value, ceiling in figures:
        terminalreporter.write_line(f"{test.removeprefix('test_'):60} {what:32} {value:8.1f}  at most {ceiling:g}")
