"""Banks of benign fine-tunes of a base: what readings that need no trigger look like when nothing is planted.

A reading of a subject is compared with the same reading of every member of the bank (conformal p-value; Vovk, Gammerman
and Shafer, 2005, Algorithmic Learning in a Random World, chapter 2). It is valid where the subject, if benign, could
have been one more member. Fine-tunes differ most in how far they went, so a reading is taken per unit of the way: a
shift in log-odds grows as the change of the weights does, drift as its square, and `shift / sqrt(drift)` as neither.
A fine-tune that drifted far more than every member, or far less, is no such member all the same: there is no p-value.

A bank cannot say that a shift is a backdoor: with m members no p-value is below 1/(m + 1), and a calibrated p-value
alone is never strong evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from detectors.findings import Plain, Probability
from detectors.stats import Array, permutation_p, robust_z

SCHEMA_VERSION = "1.1"
REACH = 2.0
"""How many times further than the members of a bank, or less far, a subject may have drifted and still be compared."""
SMALLEST_DRIFT = 1e-4
"""Nats. Below it a subject hardly differs from its base, and the way that it went has no direction."""
SMALLEST_SPREAD = 1e-3
"""Of shifts a root of drift, for a robust z; keeps ties from making noise look extreme."""


class BankMember(Plain):
    """One benign fine-tune of the base.

    Attributes:
        subject: content digest of the fine-tune.
        drift: mean KL(subject || base) of the first answer token on clean prompts, in nats.
        readings: shifts by the name of the detector that reads them, in nats; one that could not be taken is left out.
    """

    subject: str
    drift: float = Field(ge=0.0)
    readings: dict[str, float]


class Bank(Plain):
    """A bank of one base.

    Attributes:
        base: content digest of the base.
        dtype: of all observations.
        params: how much was asked.
        questions: digest of all that was asked. Readings by other questions are not comparable.
        left_out: why adapters are not among the members, by the name of their directory.
    """

    schema_version: str = SCHEMA_VERSION
    scanner_version: str
    created: str
    base: str
    dtype: str
    params: dict[str, Any]
    questions: str
    members: tuple[BankMember, ...]
    left_out: dict[str, str] = Field(default_factory=dict)

    def without(self, subject: str) -> Bank:
        """The bank without one fine-tune: what is held against it must not be a member."""
        return self.model_copy(update={"members": tuple(it for it in self.members if it.subject != subject)})

    def digest(self) -> str:
        """SHA-256 of the bank."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Calibrated(Plain):
    """A subject held against a bank.

    Attributes:
        value: shift a root of drift, or the largest robust z of several of them; higher is more suspicious.
        p_value: `(1 + #{members >= value}) / (1 + m)`; None where the bank does not apply.
        size: m, members that were compared with.
        farthest: the largest value of a member; minus infinity where there is none.
        reason: why the bank does not apply.
    """

    value: float
    p_value: Probability | None
    size: int
    farthest: float
    reason: str = ""


def conformal(bank: Bank, name: str, shift: float, drift: float) -> Calibrated:
    """How unusual a reading is among benign fine-tunes of the same base, for the way that each went.

    Args:
        bank: of the subject's base, by the same questions.
        name: of the reading.
        shift: of the subject, in nats; higher is more suspicious.
        drift: of the subject, as `BankMember.drift`.

    Raises:
        ValueError: if `shift` or `drift` is NaN.
    """
    members = [member for member in bank.members if name in member.readings]
    null = np.array([_along(member.readings[name], member.drift) for member in members])
    return _held_against(members, float(_along(shift, drift)), null, drift)


def jointly(bank: Bank, shifts: Mapping[str, float], drift: float) -> dict[str, Calibrated]:
    """How unusual each of several readings is, corrected for all of them (Westfall and Young, 1993, single step).

    Each reading becomes a robust z among subject and members together, which treats all alike, and is held against the
    largest z of every member. The p-value of the largest is the one for all of them.

    Args:
        bank: of the subject's base, by the same questions.
        shifts: readings of the subject by name, in nats, at least one.
        drift: of the subject, as `BankMember.drift`.

    Raises:
        ValueError: if a shift or `drift` is NaN.
    """
    members = [member for member in bank.members if shifts.keys() <= member.readings.keys()]
    ways = [drift, *(member.drift for member in members)]
    readings = [shifts, *(member.readings for member in members)]
    columns = [[_along(of[name], way) for of, way in zip(readings, ways, strict=True)] for name in shifts]
    standings = np.array([robust_z(np.array(column), floor=SMALLEST_SPREAD) for column in columns])
    null = standings[:, 1:].max(axis=0)
    own = zip(shifts, standings[:, 0].tolist(), strict=True)
    return {name: _held_against(members, standing, null, drift) for name, standing in own}


def _along(shift: float, drift: float) -> float:
    """A shift a unit of the way, which is the root of the drift."""
    if np.isnan(shift) or np.isnan(drift):
        raise ValueError(f"`shift` and `drift` must be numbers, got {shift} and {drift}: what is unknown has no rank")
    return shift / float(np.sqrt(max(drift, SMALLEST_DRIFT)))


def _held_against(members: Sequence[BankMember], value: float, null: Array, drift: float) -> Calibrated:
    if not members:
        reason = "no member of the bank has this reading"
        return Calibrated(value=value, p_value=None, size=0, farthest=-np.inf, reason=reason)
    farthest = float(null.max())
    lowest, highest = (edge(member.drift for member in members) for edge in (min, max))
    if not lowest / REACH <= drift <= highest * REACH:
        reason = f"the subject drifted by {drift:.3g} nats, the bank's members by {lowest:.3g} to {highest:.3g}"
        return Calibrated(value=value, p_value=None, size=len(members), farthest=farthest, reason=reason)
    return Calibrated(value=value, p_value=permutation_p(value, null), size=len(members), farthest=farthest)
