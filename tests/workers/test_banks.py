"""Banks: which one a subject is held against, and the ones that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.calibration import Bank
from detectors.engine.observations import ModelId, Role
from detectors.errors import InputError
from detectors.findings import SHIFT_ALPHA
from detectors.methods.calibration import questions
from detectors.suites import CALIBRATED
from tests.methods import small
from workers.banks import SHIPPED, find_bank, read_bank

shipped = sorted(SHIPPED.glob("*.json"))
MODELS: dict[Role, ModelId] = {"subject": ModelId("s" * 64), "base": ModelId("b" * 64)}


@pytest.mark.parametrize("file", shipped, ids=[file.stem for file in shipped])
def test_a_bank_that_ships_can_tell(file: Path) -> None:
    """By the questions of this code, and of enough members for the smallest p-value to be a finding."""
    bank = read_bank(file)
    assert bank.questions == questions(CALIBRATED)
    assert 1 / (len(bank.members) + 1) <= SHIFT_ALPHA
    assert len({member.subject for member in bank.members}) == len(bank.members)
    assert {name for member in bank.members for name in member.readings} == set(CALIBRATED.probes)
    assert file.stem.endswith(f"{bank.base[:16]}-{bank.dtype}")
    models: dict[Role, ModelId] = {"subject": ModelId("s" * 64), "base": ModelId(bank.base)}
    assert find_bank(models, bank.dtype, Path("none")) == bank


def test_some_ship() -> None:
    assert shipped


def keep(bank: Bank, directory: Path, name: str, **changes: object) -> Bank:
    kept = bank.model_copy(update={"base": MODELS["base"].content} | changes)
    (directory / f"{name}.json").write_text(kept.model_dump_json())
    return kept


def test_the_newest_of_the_base_and_the_precision_is_read(tmp_path: Path) -> None:
    bank = small.bank()
    keep(bank, tmp_path, "older", created="2026-01-01T00:00:00+00:00")
    newest = keep(bank, tmp_path, "a-newer-one", created="2026-02-01T00:00:00+00:00")
    keep(bank, tmp_path, "other-precision", created="2026-03-01T00:00:00+00:00", dtype="bfloat16")
    keep(bank, tmp_path, "other-base", created="2026-03-01T00:00:00+00:00", base="c" * 64)
    assert find_bank(MODELS, "float32", tmp_path) == newest


def test_one_s_own_comes_before_those_that_ship(tmp_path: Path) -> None:
    theirs = read_bank(shipped[0])
    own = keep(theirs, tmp_path, "own", base=theirs.base, created="2000-01-01T00:00:00+00:00")
    models: dict[Role, ModelId] = {"subject": ModelId("s" * 64), "base": ModelId(theirs.base)}
    assert find_bank(models, theirs.dtype, tmp_path) == own


def test_the_subject_is_no_member(tmp_path: Path) -> None:
    bank = keep(small.bank(), tmp_path, "bank")
    found = find_bank(MODELS | {"subject": ModelId(bank.members[0].subject)}, "float32", tmp_path)
    assert found is not None
    assert found.members == bank.members[1:]


def test_without_a_fitting_one_there_is_none(tmp_path: Path) -> None:
    keep(small.bank(), tmp_path, "bank", base="c" * 64)
    assert find_bank(MODELS, "float32", tmp_path) is None
    assert find_bank(MODELS, "float32", tmp_path / "missing") is None


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(InputError, match=r"broken\.json' is no bank; remove it, or write it by `touchstone calibrate`"):
        find_bank(MODELS, "float32", tmp_path)
