"""How well a scan tells poisoned models from benign ones, on every member of the zoo.

    python -m benchmarks.detection             # what `make bench-detection` runs
    python -m benchmarks.detection --subset    # half an hour on two cores
    python -m benchmarks.detection --sealed    # the sealed part, which is logged
    python -m benchmarks.detection --render    # the page again, from what is stored

What has a result of this code is not scanned again. `docs/benchmark.md` is written at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.core.files import write_atomically
from app.core.settings import Settings
from benchmarks.detection.metrics import Share
from benchmarks.detection.page import STRATA, Stored, page
from benchmarks.detection.peers import PEERS, run_peers
from benchmarks.detection.results import (
    ROOT,
    Result,
    code_version,
    read_peer_results,
    read_results,
    results_dir,
    write_result,
)
from benchmarks.detection.rows import SCAN, Row, ranked, verdicts
from benchmarks.detection.running import measure_all, subset
from benchmarks.organisms.manifest import Member, read_manifest
from detectors.suites import SUITES, Suite

PAGE = ROOT / "docs" / "benchmark.md"
SEALED_LOG = Path(__file__).with_name("sealed.log")


def main() -> int:
    """Scans what is asked for and has no result, and writes the page; the exit status."""
    asked = _asked()
    settings, suite, manifest = Settings(), SUITES[asked.suite], read_manifest()
    if not asked.render:
        members = chosen(list(manifest.values()), asked.members, small=asked.subset, sealed=asked.sealed)
        _scan(members, suite, settings)
        if asked.peers:
            run_peers(members, settings)
    stored = collect(list(manifest.values()), suite, results_dir(settings.cache_dir))
    if asked.sealed and not asked.render:
        log_sealed(stored, SEALED_LOG)
    write_atomically(PAGE, page(stored))
    print(f"written: {PAGE}, {len(stored.rows)} members scanned by this code", file=sys.stderr)
    return 0


def chosen(members: Sequence[Member], names: Sequence[str], *, small: bool, sealed: bool) -> list[Member]:
    """Members to scan: of the sealed split with `sealed` and only then, none whose attack failed; the bank last."""
    unknown = sorted(set(names) - {member.name for member in members})
    if unknown:
        sys.exit(f"`--members` must name members of the manifest, got {', '.join(unknown)}")
    allowed = [it for it in members if (it.split == "sealed") == sealed and it.stratum != "failed"]
    kept = [it for it in allowed if it.name in names] if names else allowed
    if len(kept) < len(set(names)):
        left_out = sorted(set(names) - {member.name for member in kept})
        sys.exit(f"not scanned: {', '.join(left_out)}; sealed members need `--sealed`, failed ones are excluded")
    return subset(kept) if small else sorted(kept, key=lambda it: it.split == "bank")


def _scan(members: Sequence[Member], suite: Suite, settings: Settings) -> None:
    directory = results_dir(settings.cache_dir)
    known = read_results(directory, suite.digest(), code_version())
    finished = {digest for digest, result in known.items() if result.report}
    missing = [member for member in members if member.digest not in finished]
    print(f"{len(members)} members, {len(missing)} without a result of this code", file=sys.stderr)
    for result in measure_all(missing, suite.name, settings):
        write_result(result, directory)


def collect(members: Sequence[Member], suite: Suite, directory: Path) -> Stored:
    """What is stored of this suite by this code, and of the peers."""
    results = read_results(directory, suite.digest(), code_version())
    peers = {peer.label: read_peer_results(directory, peer.name, peer.version) for peer in PEERS}
    by_peer = {
        member.digest: {label: found[member.digest].score for label, found in peers.items() if member.digest in found}
        for member in members
    }
    failures = {label: [it.error for it in found.values() if it.error] for label, found in peers.items()}
    return Stored(
        suite=suite,
        code=code_version(),
        rows=list(_rows(members, results, by_peer)),
        members=members,
        errors={
            it.name: results[it.digest].error for it in members if it.digest in results and results[it.digest].error
        },
        peer_failures={
            label: (Share(len(failed), len(peers[label])), next(iter(failed), "")) for label, failed in failures.items()
        },
    )


def _rows(
    members: Iterable[Member], results: dict[str, Result], by_peer: dict[str, dict[str, float | None]]
) -> Iterable[Row]:
    for member in members:
        result = results.get(member.digest)
        if result is None or result.report is None or member.stratum == "failed":
            continue
        peers = {label: score for label, score in by_peer[member.digest].items() if score is not None}
        yield Row(member, result.report, result.cost, result.baselines | peers)


def log_sealed(stored: Stored, file: Path) -> None:
    """Appends what the sealed part said: the log shows how often somebody looked."""
    sealed = [row for row in stored.rows if row.member.split == "sealed"]
    benign = [row for row in sealed if row.member.stratum == "benign"]
    entry = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": stored.code,
        "suite": stored.suite.digest(),
        "benign": len(benign),
        "false_alarms": {verdict: found.hits for verdict, found in verdicts(benign).items()},
    }
    for stratum in STRATA:
        poisoned = [row for row in sealed if row.member.stratum == stratum]
        (auc,) = [it.auc for it in ranked(poisoned, benign) if it.name == SCAN] or [None]
        entry[stratum] = {
            "poisoned": len(poisoned),
            "auc": auc.value if auc else None,
            "verdicts": {verdict: found.hits for verdict, found in verdicts(poisoned).items()},
        }
    with file.open("a") as log:
        log.write(json.dumps(entry) + "\n")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How well a scan tells poisoned models from benign ones.")
    parser.add_argument("--suite", default="quick", choices=sorted(SUITES), help="how deeply to test (default: quick)")
    parser.add_argument("--members", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--subset", action="store_true", help="only a part that takes half an hour on two cores")
    parser.add_argument("--sealed", action="store_true", help="the sealed part, and nothing else; the run is logged")
    parser.add_argument("--peers", action="store_true", help="let the installed peers score the members as well")
    parser.add_argument("--render", action="store_true", help="scan nothing, write the page from what is stored")
    asked = parser.parse_args()
    if asked.subset and (asked.sealed or asked.members):
        parser.error("`--subset` is a part of the open members; it goes with neither `--sealed` nor `--members`")
    return asked


if __name__ == "__main__":
    sys.exit(main())
