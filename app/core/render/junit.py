"""A report as JUnit XML, which Jenkins, GitLab, GitHub and others list as tests.

A check that warns is a failure here, for JUnit knows no warning, and a suppressed finding is skipped. What was not
evaluated is an error or is skipped, and then the check of the verdict is no pass either.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from app.core.render.checks import Check, State, checks
from app.core.render.visible import visible
from detectors.report import Decision, Report

_RESULTS: dict[State, Callable[[str, str], FinalResult]] = {
    "warned": Failure,
    "failed": Failure,
    "error": Error,
    "suppressed": Skipped,
    "skipped": Skipped,
}


def render_junit(report: Report, decision: Decision) -> str:
    """The report as one XML document: a suite for the scan, a test for each check."""
    suite = TestSuite(f"touchstone {visible(report.suite, 80)}")
    suite.timestamp = visible(report.created, 40).removesuffix("Z")
    for name, value in _properties(report, decision).items():
        suite.add_property(name, visible(value))
    suite.add_testcases([_case(check) for check in checks(report, decision)])
    document = JUnitXml("touchstone")
    document.add_testsuite(suite)
    document.update_statistics()
    written = io.BytesIO()
    document.write(written)
    return written.getvalue().decode()


def _case(check: Check) -> TestCase:
    case = TestCase(check.name, f"touchstone.{check.group}", round(check.seconds, 3))
    lines = "\n".join(check.detail)
    if check.state in _RESULTS:
        result = _RESULTS[check.state](check.message, check.state)
        result.text = lines or check.message
        case.result = result
    elif lines:
        case.system_out = lines
    return case


def _properties(report: Report, decision: Decision) -> dict[str, str]:
    return {
        "touchstone.verdict": decision.verdict,
        "touchstone.policy": decision.policy,
        "touchstone.scan_id": report.scan_id,
        "touchstone.scanner_version": report.scanner_version,
        "touchstone.suite": f"{report.suite} {report.suite_version}",
        "touchstone.suite_digest": report.suite_digest,
        "touchstone.model": report.subject.reference,
        "touchstone.model.file_digest": report.subject.file_digest,
        "touchstone.model.content_digest": report.subject.content_digest,
        "touchstone.base": report.base.reference,
        "touchstone.base.file_digest": report.base.file_digest,
        "touchstone.base.content_digest": report.base.content_digest,
    }
