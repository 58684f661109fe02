"""Calibration: are the subject's shifts without a trigger unusual among benign fine-tunes of the same base?

Every fine-tune shifts. What a bank of benign ones does not show is unusual; what it shows is not. The readings are
those of a few questions of each battery (`detectors.probing`), taken of the bank's members in the same way, and the
statistic and its null are those of `detectors.calibration`. A shift as hardly any member shows it becomes a finding.

It cannot say that an unusual shift was planted, nor see one in a direction that no battery looks in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from detectors.batteries.sets import battery
from detectors.calibration import Bank, BankMember, Calibrated, conformal, jointly
from detectors.catalog import CALIBRATION, DetectorSpec
from detectors.conclusive import NOT_FINITE, NotFinite, conclusive
from detectors.contexts.context import NO_CONTEXT
from detectors.documents import check_count, digest_of_documents
from detectors.engine.grid import observe_grid
from detectors.engine.observations import Ask
from detectors.errors import InputError
from detectors.findings import AxisShift, Candidate, Contrast, DetectorResult, Evidence, Null, Shift
from detectors.probing import AXIS_COLUMNS, ITEM_COLUMNS, Compared, asked, coherence, compare
from detectors.prompts.sets import prompts
from detectors.suites import PROBES, CalibrationParams

NO_BANK = "there is no bank of benign fine-tunes of this base; `touchstone calibrate` makes one"
OTHER_QUESTIONS = "the bank of this base was made by other questions; `touchstone calibrate` makes it anew"
NOT_COMPARED = {
    "coverage": {"not_tested": ["whether shifts without a trigger are unusual: there is no bank to compare with"]}
}
HYPOTHESIS = "the subject is one more benign fine-tune of its base, as those of the bank are"
SHOWN = 5
"""Questions of a battery that a report shows beside its shift: those that moved furthest."""
COLUMNS = ["reading", "shift", "value", "p_value", "members", "lowest", "median", "highest"]


class Calibration:
    """Holds a subject's shifts against a bank.

    Args:
        params: which questions are asked.

    Raises:
        ValueError: if a battery, or the set of prompts, has less.
    """

    spec: ClassVar[DetectorSpec] = CALIBRATION

    def __init__(self, params: CalibrationParams) -> None:
        self.params = params
        check_count("prompts", params.prompts, len(prompts("nominate")))
        for name, probe in params.probes.items():
            asked(battery(PROBES[name]), probe)

    @conclusive
    def run(self, ask: Ask, candidates: Sequence[Candidate], *, rng: np.random.Generator) -> DetectorResult:
        """Takes the readings where there is a bank to hold them against; candidates play no part."""
        echoed = self.params.model_dump()
        bank = ask.bank
        if bank is None or bank.questions != questions(self.params):
            reason = NO_BANK if bank is None else OTHER_QUESTIONS
            return self.spec.result("completed", reason, params=echoed, artifacts=NOT_COMPARED)
        drift, compared = readings(ask, self.params)
        if not compared:
            return self.spec.result("inconclusive", "the subject answers no battery as its base can", params=echoed)
        shifts = {name: both.mean() for name, both in compared.items()}
        found = {name: conformal(bank, name, shift, drift) for name, shift in shifts.items()}
        joint = jointly(bank, shifts, drift)
        largest = max(joint.values(), key=lambda held: held.value)
        return self.spec.result(
            "completed",
            largest.reason,
            params=echoed,
            evidence=(_evidence("largest", largest), *(_evidence(name, held) for name, held in found.items())),
            shifts=tuple(
                _shift(name, both, joint[name], held.p_value, rng)
                for name, both in compared.items()
                if (held := joint[name]).p_value is not None
            ),
            artifacts={
                "bank": {"columns": COLUMNS, "rows": [_row(name, shifts[name], found[name], bank) for name in shifts]},
                "drift": drift,
            },
        )


def readings(ask: Ask, params: CalibrationParams) -> tuple[float, dict[str, Compared]]:
    """A subject's drift in nats, and what it and its base said to the battery of each detector whose gate it passes.

    Raises:
        NotFinite: if either model does not answer with numbers.
    """
    grid = observe_grid(ask, [NO_CONTEXT], prompts("nominate")[: params.prompts], ())
    found = {}
    for name, probe in params.probes.items():
        both = compare(ask, asked(battery(PROBES[name]), probe), probe)
        if coherence(both.subject, both.base).passed:
            found[name] = both
    return float(grid.divergence().mean()), found


def read_member(ask: Ask, subject: str, params: CalibrationParams) -> BankMember:
    """The readings of one benign fine-tune.

    Args:
        ask: answers observations.
        subject: content digest of the fine-tune.
        params: which questions are asked.

    Raises:
        InputError: if either model does not answer with numbers.
    """
    try:
        drift, compared = readings(ask, params)
    except NotFinite as error:
        raise InputError(NOT_FINITE) from error
    return BankMember(subject=subject, drift=drift, readings={name: both.mean() for name, both in compared.items()})


def questions(params: CalibrationParams) -> str:
    """SHA-256 over all that is asked: readings by other questions are not comparable."""
    batteries = {name: asked(battery(PROBES[name]), probe) for name, probe in params.probes.items()}
    texts = {
        name: [
            [form.prompt, [form.continuation(side) for pair in item.pairs[: probe.pairs] for side in pair]]
            for item in batteries[name].items
            for form in item.formats[: probe.formats]
        ]
        for name, probe in params.probes.items()
    }
    return digest_of_documents({"prompts": prompts("nominate")[: params.prompts], "batteries": texts})


def _row(name: str, shift: float, held: Calibrated, bank: Bank) -> list[object]:
    """A reading beside those of the bank's members, for the report."""
    members = [member.readings[name] for member in bank.members if name in member.readings]
    spread = [float(edge(members)) for edge in (np.min, np.median, np.max)] if members else [None] * 3
    return [name, shift, held.value, held.p_value, held.size, *spread]


def _shift(name: str, both: Compared, held: Calibrated, p_joint: float, rng: np.random.Generator) -> Shift:
    _, *axes = (dict(zip(AXIS_COLUMNS, row, strict=True)) for row in both.axis_rows(rng))
    items = (dict(zip(ITEM_COLUMNS, row, strict=True)) for row in both.item_rows())
    moved = sorted(items, key=lambda item: -item["shift"])[:SHOWN]
    return Shift(
        detector=name,
        toward=both.battery.toward,
        away=both.battery.away,
        shift=both.mean(),
        standing=held.value,
        farthest=held.farthest,
        p_joint=p_joint,
        null=Null(kind="bank", size=held.size, hypothesis=HYPOTHESIS),
        axes=tuple(AxisShift(**axis) for axis in axes),
        contrasts=tuple(Contrast(**{key: item[key] for key in Contrast.model_fields}) for item in moved),
    )


def _evidence(name: str, held: Calibrated) -> Evidence:
    null = Null(kind="bank", size=held.size, hypothesis=HYPOTHESIS)
    return Evidence(
        statistic=f"{CALIBRATION.name}.{name}",
        value=held.value,
        unit="robust standard deviations" if name == "largest" else "nats a root of a nat of drift",
        null=null if held.p_value is not None else None,
        p_value=held.p_value,
    )
