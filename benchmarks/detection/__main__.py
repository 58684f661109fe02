"""How well a scan tells poisoned models from benign ones, on every member of the zoo.

    python -m benchmarks.detection             # what `make bench-detection` runs
    python -m benchmarks.detection --subset    # half an hour on two cores
    python -m benchmarks.detection --sealed    # the sealed part, which is logged
    python -m benchmarks.detection --render    # the page again, from what is stored

What has a result of this code is not scanned again. `docs/benchmark.md` and the table in the README are written at the
end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.core.files import write_atomically
from app.core.settings import Settings
from benchmarks.detection.metrics import Share
from benchmarks.detection.page import STRATA, Stored, page, with_summary
from benchmarks.detection.peers import PEERS, run_peers
from benchmarks.detection.results import (
    ROOT,
    SCAN,
    STORED,
    PeerResult,
    code_version,
    judged,
    keep_result,
    read_peer_results,
    read_results,
)
from benchmarks.detection.rows import Row, ranked, verdicts
from benchmarks.detection.running import measure_all, subset
from benchmarks.organisms.manifest import Member, read_manifest
from detectors.suites import SUITES, Suite

PAGE, README = ROOT / "docs" / "benchmark.md", ROOT / "README.md"
SEALED_LOG = Path(__file__).with_name("sealed.log")


def main() -> int:
    """Scans what is asked for and has no result of this code, and writes the page; the exit status."""
    asked = _asked()
    settings, suite, members = Settings(), SUITES[asked.suite], list(read_manifest().values())
    if not asked.render:
        wanted = chosen(members, asked.members, small=asked.subset, sealed=asked.sealed)
        _scan(wanted, suite, settings)
        if asked.peers:
            run_peers(wanted, settings)
    stored = {name: collect(members, SUITES[name]) for name in SUITES}
    if asked.sealed and not asked.render:
        log_sealed(stored[suite.name], SEALED_LOG)
    told = [it for it in stored.values() if it.rows]
    write_atomically(PAGE, page(told))
    write_atomically(README, with_summary(README.read_text(encoding="utf-8"), told))
    print(f"written: {PAGE}, and the table in {README}", file=sys.stderr)
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
    known = read_results(suite.name)
    missing = [it for it in members if it.digest not in known or not known[it.digest].by(suite, code_version())]
    print(f"{len(members)} members, {len(missing)} without a result of this code", file=sys.stderr)
    for member, measured in measure_all(missing, suite.name, settings):
        keep_result(judged(member, suite, measured))


def collect(members: Sequence[Member], suite: Suite, directory: Path = STORED) -> Stored:
    """What is stored of this suite and of the peers, for members whose attack took."""
    results = read_results(suite.name, directory)
    scanned = [(it, results[it.digest]) for it in members if it.digest in results and it.stratum != "failed"]
    peers = {peer.label: read_peer_results(peer.name, peer.version, directory) for peer in PEERS}
    failures = {label: [it.error for it in found.values() if it.error] for label, found in peers.items()}
    return Stored(
        suite=suite,
        rows=[
            Row(member, result.said, result.code, result.cost, _by_peers(member, peers))
            for member, result in scanned
            if result.said
        ],
        members=members,
        errors={member.name: result.error for member, result in scanned if result.error},
        peer_failures={
            label: (Share(len(failed), len(peers[label])), next(iter(failed), "")) for label, failed in failures.items()
        },
    )


def _by_peers(member: Member, peers: Mapping[str, Mapping[str, PeerResult]]) -> dict[str, float]:
    found = {label: results[member.digest].score for label, results in peers.items() if member.digest in results}
    return {label: score for label, score in found.items() if score is not None}


def log_sealed(stored: Stored, file: Path) -> None:
    """Appends what this code said of the sealed part: the log shows how often somebody looked."""
    sealed = [row for row in stored.rows if row.member.split == "sealed" and row.code == code_version()]
    benign = [row for row in sealed if row.member.stratum == "benign"]
    entry = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_version(),
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
