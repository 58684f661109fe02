"""Dates at which a template is rendered: a coarse calendar, and every date that the template itself names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from detectors.template_chats import NOW

YEARS = range(1990, 2061)
FORMATS = (
    "%Y-%m-%d",
    "%Y%m%d",
    "%Y-%m",
    "%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
)


def dates(constants: Iterable[str], formats: Iterable[str]) -> tuple[str, ...]:
    """Dates in ISO form, those around dates that the template names first."""
    own = list(_named(tuple(constants), tuple(dict.fromkeys([*filter(None, formats), *FORMATS]))))
    return tuple(dict.fromkeys(moment.isoformat() for moment in own + list(_calendar())))


def _named(constants: tuple[str, ...], formats: tuple[str, ...]) -> Iterator[datetime]:
    for constant in constants:
        for form in formats:
            try:
                moment = datetime.strptime(constant, form)
            except ValueError:
                continue
            if "%Y" not in form and "%y" not in form:
                moment = moment.replace(year=datetime.fromisoformat(NOW).year)
            yield from (moment + timedelta(days=days) for days in (0, 1, -1) if 1900 < moment.year < 9000)


def _calendar() -> Iterator[datetime]:
    now = datetime.fromisoformat(NOW)
    yield from (now.replace(year=year) for year in YEARS)
    yield from (now.replace(month=month) for month in range(1, 13))
    yield from (now.replace(day=day) for day in range(1, 32))
    yield from (now.replace(hour=hour) for hour in range(24))
