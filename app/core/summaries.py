"""What a list or a status says of a report, without reading it again each time: reports never change."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from app.core.deciding import read_report
from app.core.stores.blobs import Blobs
from detectors.report import Coverage

KEPT = 1024
"""Summaries that are remembered; each is some kilobytes."""


@dataclass(frozen=True)
class Summary:
    """Of one report.

    Attributes:
        findings: their number by severity.
    """

    coverage: Coverage
    findings: dict[str, int]


class Summaries:
    """Summaries of the reports in a blob store.

    Args:
        blobs: where the reports are.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.of = lru_cache(KEPT)(self._read)

    def _read(self, digest: str) -> Summary:
        report = read_report(self._blobs, digest)
        return Summary(report.coverage, dict(Counter(finding.severity for finding in report.findings)))
