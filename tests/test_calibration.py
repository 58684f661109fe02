from __future__ import annotations

import pytest

from detectors.calibration import Bank, BankMember, conformal


def bank(shifts: list[float], drifts: list[float] | None = None) -> Bank:
    drifts = drifts or [0.1 * (at + 1) for at in range(len(shifts))]
    return Bank(
        scanner_version="0",
        created="2026-01-01T00:00:00+00:00",
        base="b" * 64,
        dtype="float32",
        params={},
        batteries="q" * 64,
        prompts="p" * 64,
        members=tuple(
            BankMember(subject=str(at), drift=drift, readings={"era.shift": shift})
            for at, (shift, drift) in enumerate(zip(shifts, drifts, strict=True))
        ),
    )


@pytest.mark.parametrize(("value", "p_value"), [(9.0, 1 / 5), (4.0, 2 / 5), (2.5, 3 / 5), (0.0, 1.0)])
def test_the_p_value_counts_members_at_least_as_large(value: float, p_value: float) -> None:
    found = conformal(bank([1.0, 2.0, 3.0, 4.0]), "era.shift", value, drift=0.2)
    assert (found.p_value, found.size, found.reason) == (p_value, 4, "")


@pytest.mark.parametrize("drift", [0.05, 0.5])
def test_a_drift_that_no_member_has_gives_no_p_value(drift: float) -> None:
    found = conformal(bank([1.0, 2.0, 3.0, 4.0]), "era.shift", 9.0, drift)
    assert (found.p_value, found.size) == (None, 4)
    assert "drifted" in found.reason


def test_the_edges_of_the_range_belong_to_it() -> None:
    made = bank([1.0, 2.0], [0.1, 0.3])
    assert conformal(made, "era.shift", 0.0, 0.1).p_value == conformal(made, "era.shift", 0.0, 0.3).p_value == 1.0


def test_a_reading_that_no_member_has_gives_no_p_value() -> None:
    found = conformal(bank([1.0]), "persona.shift", 1.0, 0.1)
    assert (found.p_value, found.size) == (None, 0)
    assert "persona.shift" in found.reason


@pytest.mark.parametrize(("value", "drift"), [(float("nan"), 0.1), (1.0, float("nan"))])
def test_what_is_no_number_is_refused(value: float, drift: float) -> None:
    with pytest.raises(ValueError, match="nan"):
        conformal(bank([1.0, 2.0]), "era.shift", value, drift)


def test_a_bank_survives_its_file() -> None:
    made = bank([1.0, 2.0])
    assert Bank.model_validate_json(made.model_dump_json()) == made
