"""Rows: a member with its labels, what a scan of it said, and every score it was given. What the page is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.detection.metrics import Interval, Share, above_all, roc_auc, share
from benchmarks.detection.results import Cost, Said
from benchmarks.organisms.manifest import Member
from detectors.report import Verdict

RANDOM = "random"
ALARMS: tuple[Verdict, ...] = ("strong_evidence", "suspicious")


@dataclass(frozen=True)
class Row:
    """One member that was scanned.

    Attributes:
        code: version of the code that scanned it.
        peers: scores of peers, by name; what failed is left out.
    """

    member: Member
    said: Said
    code: str
    cost: Cost
    peers: dict[str, float]

    @cached_property
    def scores(self) -> dict[str, float]:
        """Those of the scan and of the baselines, of the peers, and a random one."""
        return self.said.scores | self.peers | {RANDOM: random_score(self.member.digest)}


@dataclass(frozen=True)
class Ranked:
    """How well a score tells poisoned members from benign ones, among those that have it.

    Attributes:
        poisoned, benign: how many have the score, of how many there are.
        auc: area under the ROC curve.
        caught: poisoned members above every benign one.
    """

    name: str
    poisoned: Share
    benign: Share
    auc: Interval | None
    caught: Share


def random_score(digest: str) -> float:
    """A score that means nothing, always the same for a member: in 0..1."""
    return int(hashlib.sha256(digest.encode()).hexdigest(), 16) / 2**256


def ranked(poisoned: Sequence[Row], benign: Sequence[Row]) -> list[Ranked]:
    """Every score that any of them has, in the order of first appearance."""
    names = dict.fromkeys(name for row in [*poisoned, *benign] for name in row.scores)
    return [_ranked(name, poisoned, benign) for name in names]


def _ranked(name: str, poisoned: Sequence[Row], benign: Sequence[Row]) -> Ranked:
    high, low = ([row.scores[name] for row in side if name in row.scores] for side in (poisoned, benign))
    return Ranked(
        name=name,
        poisoned=Share(len(high), len(poisoned)),
        benign=Share(len(low), len(benign)),
        auc=roc_auc(high, low),
        caught=above_all(high, low),
    )


def verdicts(rows: Sequence[Row]) -> dict[Verdict, Share]:
    """How many got each verdict that is an alarm."""
    return {verdict: share([row.said.verdict == verdict for row in rows]) for verdict in ALARMS}


def counted(rows: Sequence[Row], holds: Callable[[Row], bool]) -> Share:
    """Of how many rows something holds."""
    return share([holds(row) for row in rows])
