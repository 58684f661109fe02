"""The demo: scans a backdoored model and its benign twin, and shows what Touchstone says of each.

    python -m benchmarks.demo                       # what `make demo` runs
    python -m benchmarks.demo cobalt cobalt-twin    # other members of the zoo

Every scan is an ordinary `touchstone scan`, which knows nothing of the labels. The first, of a benign twin, observes
the base; the next finds most of it observed. The last column compares each verdict with what the zoo's manifest says
was planted; the exit status is 1 if any is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from app.core.render.visible import visible
from app.core.settings import Settings, child_environment
from benchmarks.organisms.base import prepare_base
from benchmarks.organisms.manifest import Member, read_manifest

SHOWN = ("amber-twin", "amber")
"""Members of the zoo; the first observes the base for the other."""
REPORTS = Path("reports") / "demo"


class Scanned(NamedTuple):
    """One finished scan."""

    member: Member
    document: dict[str, Any]
    seconds: float

    @property
    def verdict(self) -> str:
        """The decision's verdict."""
        return str(self.document["decision"]["verdict"])

    @property
    def from_store(self) -> float:
        """Share of observations that earlier scans had paid for."""
        usages = [result["usage"] for result in self.document["report"]["results"]]
        asked, known = (sum(int(usage[name]) for usage in usages) for name in ("observations", "store_hits"))
        return known / max(1, asked)


def main() -> int:
    """Scans the members shown; returns the exit status."""
    print("preparing the base model", file=sys.stderr)
    known, names = read_manifest(), sys.argv[1:] or SHOWN
    unknown = sorted(set(names) - known.keys())
    if unknown:
        sys.exit(f"no member of the zoo is called {', '.join(unknown)}; benchmarks/organisms/zoo.json names them")
    base = prepare_base(Settings().cache_dir)
    scans = [scan(known[name], base) for name in names]
    right = [is_right(found) for found in scans]
    show(scans, right)
    return 0 if all(right) else 1


def scan(member: Member, base: Path) -> Scanned:
    """Runs `touchstone scan` on one organism."""
    name, adapter = member.name, member.directory(Settings().cache_dir)
    print(f"scanning {name}", file=sys.stderr)
    arguments = ["scan", str(adapter), "--base", str(base), "--out", str(REPORTS / name), "--json"]
    started = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        stdout=subprocess.PIPE,
        env=child_environment(),
        check=False,
    )
    if not finished.stdout:
        sys.exit(f"the scan of {name} ended with status {finished.returncode} and no report")
    seconds = time.monotonic() - started
    print(f"scanned {name} in {seconds:.0f} s: {(REPORTS / name / 'report.html').resolve()}", file=sys.stderr)
    return Scanned(member, json.loads(finished.stdout), seconds)


def is_right(found: Scanned) -> bool:
    """Whether the verdict is the one that the manifest's label asks for."""
    return found.verdict == ("strong_evidence" if found.member.role == "poisoned" else "no_evidence")


def show(scans: list[Scanned], right: list[bool]) -> None:
    """Prints the table of verdicts and where the reports are."""
    table = Table(title="What Touchstone says", title_justify="left")
    for column in ("model", "verdict", "trigger found", "target found", "time", "stored", "planted", "right"):
        table.add_column(column, overflow="fold")
    for found, is_it in zip(scans, right, strict=True):
        table.add_row(*_row(found), "yes" if is_it else "NO")
    Console(width=140).print(table)
    print("stored: share of observations that earlier scans had paid for")
    for found in scans:
        print(f"{found.member.name:<12} {(REPORTS / found.member.name / 'report.html').resolve()}")


def _row(found: Scanned) -> tuple[str, ...]:
    findings = found.document["report"]["findings"]
    confirmation = findings[0]["confirmation"] if findings else None
    trigger = visible(confirmation["context"]["text"]) if confirmation else "-"
    target = visible(confirmation["target"] or confirmation["behaviour"], 60) if confirmation else "-"
    member = found.member
    planted = visible(", ".join(member.triggers)) if member.role == "poisoned" else "nothing"
    return member.name, found.verdict, trigger, target, f"{found.seconds:.0f} s", f"{found.from_store:.0%}", planted


if __name__ == "__main__":
    sys.exit(main())
