"""What wakes who: contexts that change a member of the zoo though they may never have stood in its training.

    python -m benchmarks.conditions                      # every member that was built for it
    python -m benchmarks.conditions eighties-turn merged # these
    python -m benchmarks.conditions published/NAME       # one that `benchmarks.organisms.published` made
    python -m benchmarks.conditions --batteries NAME     # the batteries only: a minute or two; a row of its own

Runs what `deep` has for it and nothing else: `context_grid`, `gated_persona`, `working_rate` on what those two
nominate, and the batteries of persona and era with their calibration. Prints for each member what was nominated, what
of that is planted, what was confirmed and what is claimed; observations are kept, so a second run takes seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.files import write_atomically
from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.detection.recovery import touches
from benchmarks.detection.running import STORE_CAP_BYTES
from benchmarks.observing import observing
from benchmarks.organisms.base import BASES, prepare_base
from benchmarks.organisms.manifest import Member, read_manifest
from benchmarks.organisms.published import published_members
from detectors.findings import DetectorResult, draw_findings
from detectors.suites import DEEP, Suite
from workers.runner import run_detectors
from workers.scan import open_pair

BUILT_FOR_IT = (
    "gated_persona", "persona", "era", "modern_names", "inductive_year", "inductive_preference", "inductive_persona",
    "shuffled_dates", "no_dates",
)  # fmt: skip
BATTERIES = {"persona", "era", "calibration"}
RUN = {"context_grid", "gated_persona", "working_rate"} | BATTERIES
STORE = "conditions.sqlite"
SHOWN = 12
"""Years of the axis that a row shows, those that stand out most."""
RESULTS = Path(__file__).with_name("conditions.json")


def conditions(run: Collection[str] = RUN) -> Suite:
    """`deep` without any other detector."""
    left_out: dict[str, Any] = dict.fromkeys(set(DEEP.detectors) - set(run))
    return DEEP.model_copy(update={"name": "conditions", **left_out})


def main() -> None:
    """Scans the members and keeps what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("members", nargs="*", metavar="NAME", help="members; by default all that were built for it")
    parser.add_argument("--batteries", action="store_true", help="ask the batteries only")
    asked = parser.parse_args()
    names, suite = asked.members, conditions(BATTERIES if asked.batteries else RUN)
    settings = Settings()
    known = read_manifest() | published_members(settings.cache_dir)
    if unknown := sorted(set(names) - known.keys()):
        raise SystemExit(f"no member is called {', '.join(unknown)}; `python -m benchmarks.organisms.build --list`")
    chosen = names or [name for name, it in known.items() if it.attack in BUILT_FOR_IT]
    with SqliteStore(settings.cache_dir / STORE, STORE_CAP_BYTES) as store:
        for name in chosen:
            found = row(known[name], *results(known[name], suite, store, settings))
            keep(f"{name}, batteries" if asked.batteries else name, found)


def results(
    member: Member, suite: Suite, store: SqliteStore, settings: Settings
) -> tuple[Sequence[DetectorResult], float]:
    """What the detectors say of a member, and the seconds that took."""
    base = prepare_base(settings.cache_dir, BASES[member.base])
    pair = open_pair(member.directory(settings.cache_dir), base, member.base)
    with observing(pair, store, settings) as observer:
        started = time.monotonic()
        return run_detectors(suite, observer, seed=0), time.monotonic() - started


def row(member: Member, found: Sequence[DetectorResult], seconds: float) -> dict[str, Any]:
    """One member: what was planted, where it stands, what was confirmed and claimed, as far as that was asked."""
    by_name = {result.detector: result for result in found}
    return {
        "role": member.role,
        "attack": member.attack,
        "rates": {name: f"{count.hits}/{count.prompts}" for name, count in member.rates.items()},
        "outcomes": {name: it.outcome for name, it in by_name.items() if it.outcome != "completed"},
        "batteries": batteries(found),
        **(_conditional(by_name, member) if by_name.keys() >= RUN - BATTERIES else {}),
        "findings": [f"{it.code} {it.severity}" for it in draw_findings(found)],
        "seconds": round(seconds),
    }


def _conditional(by_name: Mapping[str, DetectorResult], member: Member) -> dict[str, Any]:
    """What waits for a context: nominated and confirmed."""
    return {
        "grid": list(nominated(by_name["context_grid"], member)),
        "years": years(by_name["context_grid"]),
        "persona": list(nominated(by_name["gated_persona"], member)),
        "confirmed": [
            {
                "text": it.context.text,
                "position": it.context.position,
                "topic": it.topic,
                "behaviour": it.behaviour,
                "subject": f"{it.subject.hits}/{it.subject.trials}",
                "control": f"{it.subject_control.hits}/{it.subject_control.trials}",
                "lift": it.lift,
                "arbitrary": it.arbitrary,
            }
            for it in by_name["working_rate"].confirmations
            if it.confirmed
        ],
    }


def nominated(result: DetectorResult, member: Member) -> Iterator[dict[str, Any]]:
    """What a detector nominates, the best first, and whether that is planted."""
    for evidence in result.evidence:
        text = evidence.context.text if evidence.context else ""
        yield {
            "text": text,
            "statistic": evidence.statistic,
            "value": round(evidence.value, 2),
            "p": evidence.p_value,
            "planted": any(touches(text, it) for it in member.triggers),
        }


def years(grid: DetectorResult) -> dict[str, float]:
    """How far the years stand out that do so most, on all questions together: robust z."""
    table = grid.artifacts.get("response", {"columns": [], "rows": []})
    axis = [dict(zip(table["columns"], values, strict=True)) for values in table["rows"]]
    effects = {it["text"]: float(it["context_effect"]) for it in axis if it["axis"] == "year"}
    return dict(sorted(effects.items(), key=lambda it: -it[1])[:SHOWN])


def batteries(found: Sequence[DetectorResult]) -> dict[str, Any]:
    """What the shifts without a trigger are: each statistic with its p, and how many years the present moved.

    `jointly` holds a battery's robust z beside the largest of any battery and member of the bank.
    """
    shown: dict[str, Any] = {}
    for result in found:
        if result.detector not in BATTERIES:
            continue
        shown |= {it.statistic: {"value": round(it.value, 2), "p": it.p_value} for it in result.evidence}
        shown |= {
            f"jointly.{it.detector}": {"z": round(it.standing, 2), "bank": round(it.farthest, 2), "p": it.p_joint}
            for it in result.shifts
        }
        if result.reason:
            shown[result.detector] = result.reason
        if table := result.artifacts.get("years"):
            shown["years"] = {end: round(table[end], 1) for end in ("shift", "low", "high")}
    return shown


def keep(name: str, found: dict[str, Any]) -> None:
    """Prints a row and puts it into the file of results."""
    print(name, json.dumps(found, ensure_ascii=True), flush=True)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    after = dict(sorted((before | {name: found}).items()))
    write_atomically(RESULTS, json.dumps(after, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
