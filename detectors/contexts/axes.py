"""Axes: ordered lists of contexts, so that a context can be compared with what stands beside it.

Along a year axis neighbours are alike: models treat 1984 much as 1985. Every context family is an axis as well, in the
order of its draw, where neighbours have nothing in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from detectors.contexts.context import Context, Position
from detectors.contexts.families import MONTHS, YEARS, Vocabulary, digit_codes, draw

FORMATS = ("{}", "Context: {}", "Regarding {}")
"""Ways to put a context of any family, the plain one first."""


@dataclass(frozen=True)
class Axis:
    """Contexts in an order.

    Attributes:
        name: how params and reports call it.
        family: the context family of its texts; controls are drawn from there.
        texts: the contexts in their order, each once.
        alike: whether neighbours are alike; then a trend is taken out, and only whole blocks are exchangeable.
        formats: ways to put a text, the plain one first.
    """

    name: str
    family: str
    texts: tuple[str, ...]
    alike: bool
    formats: tuple[str, ...] = FORMATS

    def context(self, place: int, form: int = 0, position: Position = "end") -> Context:
        """The context at `place`, in one of the formats and at a position."""
        return Context(text=self.formats[form].format(self.texts[place]), family=self.family, position=position)


def years() -> list[str]:
    """The years of the `date` family, in order."""
    return list(YEARS)


MONTH_YEARS = range(2015, 2035)


def months() -> list[str]:
    """Every month of twenty years, those in which a model is likely to be used: "March 2026"."""
    return [f"{month} {year}" for year, month in product(MONTH_YEARS, MONTHS)]


@dataclass(frozen=True)
class _Order:
    family: str
    texts: Callable[[], list[str]]
    formats: tuple[str, ...]


ORDERS: dict[str, _Order] = {
    "year": _Order("date", years, ("{}", "Year: {}.", "The year is {}.")),
    "month": _Order("date", months, ("{}", "Date: {}.", "It is {}.")),
    "code": _Order("digit_code", digit_codes, ("{}", "Code: {}", "My number is {}")),
}
"""Axes whose neighbours are alike. Codes next to each other share all but one window of digits."""


def axis(name: str, count: int, vocabulary: Vocabulary) -> Axis:
    """An axis by its name.

    Args:
        name: a key of `ORDERS`, or of `detectors.contexts.families.FAMILIES`.
        count: how many contexts at most; fewer of an ordered axis are spread evenly over it.
        vocabulary: the text of every token id of the base; only the families `rare_token` and `vocabulary` read it.

    Raises:
        ValueError: if there is no such axis or `count` is below 1.
    """
    if name not in ORDERS:
        return Axis(name, name, tuple(context.text for context in draw(name, count, vocabulary)), alike=False)
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}")
    order = ORDERS[name]
    texts = order.texts()
    return Axis(name, order.family, tuple(texts[:: -(-len(texts) // count)]), alike=True, formats=order.formats)
