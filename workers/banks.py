"""Finds the bank that a subject is held against: one of this machine's own, or one that ships."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from detectors.calibration import Bank
from detectors.engine.observations import ModelId, Role
from detectors.errors import InputError

SHIPPED = Path(str(files("detectors").joinpath("banks")))


def find_bank(models: Mapping[Role, ModelId], dtype: str, own: Path) -> Bank | None:
    """The newest bank of the base, one's own before those that ship; None where there is none.

    Args:
        models: subject and base; the subject is left out of the bank, should it be a member.
        dtype: of the observations that will be compared.
        own: directory of this machine's banks; it may be missing.

    Raises:
        InputError: if a file there is no bank.
    """
    for directory in (own, SHIPPED):
        banks = [read_bank(file) for file in sorted(directory.glob("*.json"))]
        fitting = [bank for bank in banks if (bank.base, bank.dtype) == (models["base"].content, dtype)]
        if fitting:
            return max(fitting, key=lambda bank: bank.created).without(models["subject"].content)
    return None


def read_bank(file: Path) -> Bank:
    """A bank as `touchstone calibrate` wrote it.

    Raises:
        InputError: if the file is none.
    """
    try:
        return Bank.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{str(file)!r} is no bank; remove it, or write it by `touchstone calibrate`: {error}"
        ) from error
