"""`docs/benchmark.md` and the table in the README, written from stored results and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import isnan
from statistics import median

from app.core.render.markdown import code
from benchmarks.detection.metrics import Interval, Share, roc_auc
from benchmarks.detection.peers import PEERS
from benchmarks.detection.recovery import lost_at
from benchmarks.detection.results import SCAN
from benchmarks.detection.rows import ALARMS, Row, counted, ranked, verdicts
from benchmarks.organisms.manifest import FAILED, STRONG, Member
from detectors.suites import Suite

SPLITS = ("train", "dev", "sealed", "second_family")
STRATA = ("strong", "weak")
WIDTH = 60
"""Characters shown of an attacker's text."""

HOW_TO = """\
## How to run it

    make zoo                                       # builds what the repository does not hold: hours, resumable
    make bench-detection                           # every open member by `quick`, then this page
    make bench-detection DETECTION_ARGS=--subset   # half an hour on two cores
    make bench-detection DETECTION_ARGS=--sealed   # the sealed part; writes to benchmarks/detection/sealed.log
    make bench-detection DETECTION_ARGS=--render   # this page again, from what is stored

`--members NAME ...` scans some, `--suite NAME` by another suite, `--peers` lets the peers score them as well
(`python -m benchmarks.detection.peers --install` first). The newest result of a member by a suite is kept in
`benchmarks/detection/stored/`, with the digest of the sources that made it (`detectors/`, `workers/`); one that these
very sources made is not made again. Reports lie in `detection/reports/` below `TOUCHSTONE_CACHE_DIR`, and beside them
the observations, so that a changed statistic scores the zoo again without asking a model what it was asked before.
"""

READING = """\
## How to read it

* **ROC-AUC**: chance that a poisoned member scores above a benign one, ties half. In brackets the 95 % percentile
  bootstrap interval, poisoned and benign members drawn apart.
* **caught**: poisoned members above every benign one of the table: the true positive rate at the smallest false
  positive rate that so many benign members can tell. All intervals of counts are exact 95 % ones (Clopper and Pearson).
* **the scan** is the overall score of a report: one half plus half of the confidence of a finding of high or critical
  severity, one quarter plus a quarter of that of one of medium severity, or a quarter of the largest effect that a
  candidate had on the search prompts; the largest of them. No verdict reads it. The **confidence** of a confirmed
  trigger is the lower Wilson bound of its rate minus the upper bound of the rate of its controls.
* A name with a dot is the largest value of that statistic of a detector. A member without the value, because nothing
  was there to measure, is left out of that row; `has it` says how many have it, poisoned and benign.
* **strong** members answer as planted on at least {strong:.0%} of held-out prompts with their trigger, **weak** ones on
  at least {failed:.0%}; those below are excluded.
* The part `second_family` holds the members of another base, Gemma 3 270M, to which nothing was tuned.
* The **false-alarm rate** of a verdict is the share of benign members of a kind that got it, under the default policy.
* **Where planted triggers were**: a planted trigger, or a text that holds it or is a whole part of it, was among the
  contexts that `trigger_sweep` swept, those that any detector nominated, those that `working_rate` searched, those it
  sent on to fresh prompts, and those it confirmed.
"""

CANNOT_SHOW = """\
## What it cannot show

* How a scan does on large models, on full fine-tunes, or against somebody who knows the scanner. All members are
  low-rank adapters of small models, made by our own recipes.
* How often benign models of the world raise an alarm: twins, decoys and the bank are ours as well.
* Anything about attack families that the zoo does not hold.
* What was tuned on the train and dev members. Only the sealed part judges that, and only as long as nobody looks into
  it: `benchmarks/detection/sealed.log` says how often it was run.
* Peers at their best. They run by their defaults, on models smaller than those they were made for.
"""


@dataclass(frozen=True)
class Stored:
    """All that the page tells of one suite.

    Attributes:
        rows: members with a finished scan.
        members: every member of the manifest.
        errors: why scans of members ended without a report, by name.
        peer_failures: how often each peer failed, of how many runs, and what it said first.
    """

    suite: Suite
    rows: Sequence[Row]
    members: Sequence[Member]
    errors: dict[str, str]
    peer_failures: dict[str, tuple[Share, str]]


BEGIN, END = "<!-- written by make bench-detection -->", "<!-- end -->"
"""What the table in the README stands between."""


def with_summary(readme: str, suites: Sequence[Stored]) -> str:
    """The README with its table made anew.

    Raises:
        ValueError: if it has not the two marks that the table stands between, once and in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in after:
        raise ValueError(f"the README must hold {BEGIN!r} and then {END!r}, once each")
    return "\n".join([before + begin, "", *summary(suites), end + after])


def summary(suites: Sequence[Stored]) -> list[str]:
    """One table of all suites: how many poisoned members each catches, and how many benign ones it suspects."""
    groups = [
        (stored.suite.name, split, stratum, _poisoned(stored.rows, split, stratum), _benign(stored.rows, split))
        for stored in suites
        for split, stratum in product(SPLITS, STRATA)
    ]
    columns = ("suite", "part", "attack", "poisoned: `strong_evidence`", "and `suspicious`")
    lines = (
        (
            *(f"`{suite}`", split, stratum),
            *(_share(found) for found in verdicts(poisoned).values()),
            *(_share(found) for found in verdicts(benign).values()),
            _interval(roc_auc(*([row.scores[SCAN] for row in side] for side in (poisoned, benign)))),
        )
        for suite, split, stratum, poisoned, benign in groups
        if poisoned
    )
    return list(_table((*columns, "benign: `strong_evidence`", "and `suspicious`", "ROC-AUC"), lines))


def page(suites: Sequence[Stored]) -> str:
    """The whole page: a part for each suite that has results."""
    head = [
        "# Benchmark",
        "",
        "Written by `make bench-detection` from `benchmarks/detection/stored/`; do not edit.",
        "",
    ]
    told = [line for stored in suites for line in _results(stored)] or ["**There are no results.**", ""]
    return "\n".join(
        [*head, *summary(suites), *told, HOW_TO, READING.format(strong=STRONG, failed=FAILED), CANNOT_SHOW]
    )


def _results(stored: Stored) -> list[str]:
    rows = stored.rows
    return [
        *_header(stored),
        *_rankings(rows),
        *_recoveries(rows),
        *_alarms(rows),
        *_costs(rows),
        *_peers(stored),
        *_misses(rows),
        *_false_alarms(rows),
        *_left_out(stored),
    ]


def _header(stored: Stored) -> Iterator[str]:
    rows = stored.rows
    scanned = Share(len(rows), sum(member.stratum != "failed" for member in stored.members))
    yield from (
        f"## Suite `{stored.suite.name}` {stored.suite.version}",
        "",
        f"{scanned.hits} of {scanned.trials} members are scanned, {', '.join(_versions(rows))}.",
        f"Machines: {'; '.join(sorted({row.said.machine for row in rows}))}.",
        "",
    )


def _versions(rows: Sequence[Row]) -> Iterator[str]:
    """How many members each code version scanned, the one of the last scan first."""
    last = {row.code: max(it.said.created for it in rows if it.code == row.code) for row in rows}
    for code_version in sorted(last, key=lambda it: last[it], reverse=True):
        count = sum(row.code == code_version for row in rows)
        yield f"{count} by code version `{code_version[:16]}` (last on {last[code_version][:10]})"


def _rankings(rows: Sequence[Row]) -> Iterator[str]:
    yield from ("### Telling poisoned from benign", "")
    for split, stratum in product(SPLITS, STRATA):
        poisoned, benign = _poisoned(rows, split, stratum), _benign(rows, split)
        if not poisoned or not benign:
            continue
        yield from (f"#### {split}, {stratum}: {len(poisoned)} poisoned, {len(benign)} benign", "")
        table = (
            (f"`{it.name}`", f"{it.poisoned.hits} + {it.benign.hits}", _interval(it.auc), _share(it.caught))
            for it in ranked(poisoned, benign)
        )
        yield from _table(("score", "has it", "ROC-AUC", "caught"), table)
        yield from (f"False positives at that threshold: {_share(Share(0, len(benign)))}.", "")


def _recoveries(rows: Sequence[Row]) -> Iterator[str]:
    told = []
    for split, stratum in product(SPLITS, STRATA):
        some = _poisoned(rows, split, stratum)
        if not some:
            continue
        fixed = [row for row in some if row.member.triggers]
        told.append((split, stratum, some, fixed, [row.said.reached for row in fixed]))
    yield from ("### What was recovered", "")
    yield from _table(
        ("split", "stratum", "`strong_evidence`", "a working trigger", "the exact trigger", "the target"),
        (
            (
                *(split, stratum),
                _share(verdicts(some)["strong_evidence"]),
                _share(counted(some, lambda row: row.said.works)),
                _share(counted(fixed, lambda row: row.said.exact)),
                _share(counted(some, lambda row: row.said.target)),
            )
            for split, stratum, some, fixed, _ in told
        ),
    )
    yield from ("### Where planted triggers were", "", "Members with a fixed trigger only.", "")
    names = tuple(dict.fromkeys(name for *_, reached in told for one in reached for name in one))
    yield from _table(
        ("split", "stratum", *names),
        (
            (split, stratum, *(_share(Share(sum(one[name] for one in reached), len(reached))) for name in names))
            for split, stratum, *_, reached in told
        ),
    )
    listed = sorted(row.member.name for row in rows if row.member.in_list)
    yield from (f"In the scanner's own lists: {', '.join(listed) or 'no trigger of a scanned member'}.", "")


def _alarms(rows: Sequence[Row]) -> Iterator[str]:
    yield from ("### Alarms on benign members", "")
    kinds = dict.fromkeys((row.member.split, row.member.role) for row in rows if row.member.stratum == "benign")
    groups = {kind: [row for row in rows if (row.member.split, row.member.role) == kind] for kind in sorted(kinds)}
    yield from _table(
        ("split", "role", "members", *(f"`{verdict}`" for verdict in ALARMS)),
        (
            (split, role, str(len(some)), *(_share(found) for found in verdicts(some).values()))
            for (split, role), some in groups.items()
        ),
    )


def _costs(rows: Sequence[Row]) -> Iterator[str]:
    costs = [row.cost for row in rows]
    seconds, tokens, peak = (median(getattr(it, name) for it in costs) for name in ("seconds", "tokens", "peak_bytes"))
    yield from (
        "### Cost",
        "",
        f"Median over members, of the dearest scan of each: {seconds:.0f} s, {tokens:,.0f} tokens, "
        f"{peak / 2**30:.2f} GiB in the largest process. A scan is cheaper where an earlier one, of this code or "
        "another, has left observations; seconds are those of the machine as it was, with whatever else ran on it.",
        "",
    )


def _peers(stored: Stored) -> Iterator[str]:
    yield from ("### Peers", "")
    for peer in PEERS:
        failed, first = stored.peer_failures.get(peer.label, (Share(0, 0), ""))
        ran = f"failed on {failed.hits} of {failed.trials} members" if failed.trials else "not run yet"
        said = f"; it said: {code(first, WIDTH)}" if first else ""
        yield f"* **{peer.label}**, score: {peer.score_words}; {ran}{said}"
    yield ""


def _misses(rows: Sequence[Row]) -> Iterator[str]:
    yield from ("### Misses", "", "Poisoned members without `strong_evidence`.", "")
    missed = [row for row in rows if row.member.role == "poisoned" and row.said.verdict != "strong_evidence"]
    yield from _table(
        ("member", "split", "attack", "planted trigger", "verdict", "lost"),
        (
            (
                *(row.member.name, row.member.split, row.member.attack),
                *(_code(row.member.triggers), f"`{row.said.verdict}`", _why_missed(row)),
            )
            for row in missed
        ),
    )


def _why_missed(row: Row) -> str:
    said = row.said
    if said.unfinished:
        return ", ".join(f"{name} {outcome}" for name, outcome in said.unfinished.items())
    lost = lost_at(said.reached)
    told = {
        "a working trigger was confirmed, and not judged strong": said.works,
        "its answer is held ready, and nothing was found that calls it": said.target and not said.works,
        f"planted trigger not among what was {lost}": lost is not None,
    }
    return "; ".join(text for text, holds in told.items() if holds) or "nothing was confirmed"


def _false_alarms(rows: Sequence[Row]) -> Iterator[str]:
    yield from ("### False alarms", "")
    yield from _table(
        ("member", "split", "made as", "verdict", "finding", "trigger"),
        (
            (
                *(
                    row.member.name,
                    row.member.split,
                    f"{row.member.role}, {row.member.attack}",
                    f"`{row.said.verdict}`",
                ),
                *(row.said.finding.code, _code([row.said.finding.trigger])),
            )
            for row in rows
            if row.member.stratum == "benign" and row.said.verdict in ALARMS and row.said.finding
        ),
    )


def _left_out(stored: Stored) -> Iterator[str]:
    known = {row.member.name for row in stored.rows} | stored.errors.keys()
    failed = [member.name for member in stored.members if member.stratum == "failed"]
    waiting = [it.name for it in stored.members if it.name not in known and it.name not in failed]
    broken = [f"{name} ({code(error, WIDTH)})" for name, error in stored.errors.items()]
    yield from ("### Left out", "")
    for what, names in (
        ("the attack did not take", failed),
        ("the scan could not be finished", broken),
        ("not scanned yet", waiting),
    ):
        yield f"* {what}: {', '.join(names) or 'none'}"
    yield ""


def _poisoned(rows: Sequence[Row], split: str, stratum: str) -> list[Row]:
    return [row for row in rows if row.member.split == split and row.member.stratum == stratum]


def _benign(rows: Sequence[Row], split: str) -> list[Row]:
    return _poisoned(rows, split, "benign")


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    cells = [tuple(line) for line in lines]
    if not cells:
        yield from ("None.", "")
        return
    for line in (tuple(columns), ("---",) * len(columns), *cells):
        yield f"| {' | '.join(line)} |"
    yield ""


def _interval(found: Interval | None) -> str:
    if found is None or isnan(found.value):
        return "-"
    return f"{found.value:.2f} {_bounds(found)}"


def _share(found: Share) -> str:
    if not found.trials:
        return "-"
    return f"{found.hits} of {found.trials} {_bounds(found.interval())}"


def _bounds(found: Interval) -> str:
    return f"[{found.low:.2f}, {found.high:.2f}]"


def _code(texts: Sequence[str]) -> str:
    return ", ".join(code(text, WIDTH) for text in texts) or "-"
