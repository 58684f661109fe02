"""Banks of benign fine-tunes of a base: what readings that need no trigger look like when nothing is planted.

A reading of a subject is compared with the same reading of every member of the bank (conformal p-value; Vovk, Gammerman
and Shafer, 2005, Algorithmic Learning in a Random World, chapter 2). It is valid where the subject, if benign, could
have been one more member. A fine-tune that went much further from the base than all of them, or not as far, could not:
outside the bank's range of drift the answer is that there is none.

A bank cannot say that a shift is a backdoor: with m members no p-value is below 1/(m + 1), and a calibrated p-value
alone is never strong evidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from detectors.findings import Plain, Probability
from detectors.stats import permutation_p

SCHEMA_VERSION = "1.0"


class BankMember(Plain):
    """One benign fine-tune of the base.

    Attributes:
        subject: content digest of the fine-tune.
        drift: mean KL(subject || base) of the first answer token on clean prompts, in nats.
        readings: values by the name of their statistic; one that could not be taken is left out.
    """

    subject: str
    drift: float = Field(ge=0.0)
    readings: dict[str, float]


class Bank(Plain):
    """A bank of one base.

    Attributes:
        base: content digest of the base.
        dtype: of all observations.
        params: of each detector that was read.
        batteries, prompts: digests of the questions and prompts. Readings by other params, questions or prompts are not
            comparable.
        left_out: why adapters are not among the members, by the name of their directory.
    """

    schema_version: str = SCHEMA_VERSION
    scanner_version: str
    created: str
    base: str
    dtype: str
    params: dict[str, dict[str, Any]]
    batteries: str
    prompts: str
    members: tuple[BankMember, ...]
    left_out: dict[str, str] = Field(default_factory=dict)


class Calibrated(Plain):
    """A reading held against a bank.

    Attributes:
        p_value: `(1 + #{members >= value}) / (1 + m)`; None where the bank does not apply.
        size: m, members that have the reading.
        reason: why the bank does not apply.
    """

    p_value: Probability | None
    size: int
    reason: str = ""


def conformal(bank: Bank, statistic: str, value: float, drift: float) -> Calibrated:
    """How unusual a reading is among benign fine-tunes of the same base that drifted about as far.

    Args:
        bank: of the subject's base, by the same questions.
        statistic: name of the reading.
        value: of the subject; higher is more suspicious.
        drift: of the subject, as `BankMember.drift`.

    Raises:
        ValueError: if `value` or `drift` is NaN.
    """
    if np.isnan(drift):
        raise ValueError("`drift` must be a number, got nan: what was not measured is in no range")
    members = [member for member in bank.members if statistic in member.readings]
    if not members:
        return Calibrated(p_value=None, size=0, reason=f"no member of the bank has a reading of {statistic}")
    lowest, highest = (edge(member.drift for member in members) for edge in (min, max))
    if not lowest <= drift <= highest:
        reason = f"the subject drifted by {drift:.3g} nats, the bank's members by {lowest:.3g} to {highest:.3g}"
        return Calibrated(p_value=None, size=len(members), reason=reason)
    null = np.array([member.readings[statistic] for member in members])
    return Calibrated(p_value=permutation_p(value, null), size=len(members))
