"""Builds a bank: takes the readings that need no trigger from every benign adapter of a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from detectors.calibration import Bank, BankMember
from detectors.engine.adapter import CONFIG
from detectors.errors import InputError
from detectors.methods.calibration import questions
from detectors.suites import CALIBRATED


def adapters_in(directory: Path) -> list[Path]:
    """Directories of adapters directly below `directory`, by name.

    Raises:
        InputError: if there are none.
    """
    found = sorted(file.parent for file in directory.glob(f"*/{CONFIG}"))
    if not found:
        raise InputError(f"{str(directory)!r} holds no adapters, wanted directories with a {CONFIG} directly below it")
    return found


def make_bank(base: str, dtype: str, members: Sequence[BankMember], left_out: Mapping[str, str]) -> Bank:
    """A bank of these members, each kept once."""
    return Bank(
        scanner_version=version("touchstone"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=base,
        dtype=dtype,
        params=CALIBRATED.model_dump(),
        questions=questions(CALIBRATED),
        members=tuple({member.subject: member for member in members}.values()),
        left_out=dict(left_out),
    )
