"""Builds a bank: takes the readings that need no trigger from every benign adapter of a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from detectors.batteries import sets as batteries
from detectors.calibration import Bank, BankMember
from detectors.catalog import ERA, PERSONA
from detectors.contexts.context import NO_CONTEXT
from detectors.engine.adapter import CONFIG
from detectors.engine.grid import observe_grid
from detectors.engine.observations import NOT_FINITE, Ask
from detectors.errors import InputError
from detectors.prompts import sets as prompts
from detectors.suites import QUICK
from workers.runner import DETECTORS, generator

SUITE = QUICK
READ = (PERSONA.name, ERA.name)
SEED = 0


def adapters_in(directory: Path) -> list[Path]:
    """Directories of adapters directly below `directory`, by name.

    Raises:
        InputError: if there are none.
    """
    found = sorted(file.parent for file in directory.glob(f"*/{CONFIG}"))
    if not found:
        raise InputError(f"{str(directory)!r} holds no adapters, wanted directories with a {CONFIG} directly below it")
    return found


def read_member(ask: Ask, subject: str) -> BankMember:
    """One adapter's drift and readings.

    Args:
        ask: answers observations.
        subject: content digest of the adapter on its base.

    Raises:
        InputError: if the adapter answers with probabilities that are not numbers.
    """
    grid = observe_grid(ask, [NO_CONTEXT], prompts.prompts("nominate"), ())
    if not grid.finite():
        raise InputError(NOT_FINITE)
    results = [DETECTORS[name](SUITE).run(ask, (), rng=generator(SUITE.version, SEED, name)) for name in READ]
    readings = {evidence.statistic: evidence.value for result in results for evidence in result.evidence}
    return BankMember(subject=subject, drift=float(grid.divergence().mean()), readings=readings)


def make_bank(base: str, dtype: str, members: Sequence[BankMember], left_out: Mapping[str, str]) -> Bank:
    """A bank of these members, each kept once."""
    return Bank(
        scanner_version=version("touchstone"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=base,
        dtype=dtype,
        params={name: getattr(SUITE, name).model_dump() for name in READ},
        batteries=batteries.digest(),
        prompts=prompts.digest(),
        members=tuple({member.subject: member for member in members}.values()),
        left_out=dict(left_out),
    )
