"""Recall and cost of the vocabulary sweep: where does a planted token stand after each stage, and what did that take?

    python -m benchmarks.vocabulary [NAME ...] [--suite SUITE] [--groups N | --sizes]

Members are those named, or all of the zoo's train and dev splits that are here and have one trigger that works at the
end. Of a trigger of several tokens the best placed one that is tried counts. Each member gets the sweep of the suite,
stage by stage; where the planted token is lost in stage one, the later ranks are those that it would have had. The time
is set beside eight plain forwards of whole requests for every token, measured on a sample in the same run.

`--groups` takes so many groups, evenly spread, and that of the planted token, and goes on with the same shares of them.
`--sizes` instead puts the planted token into groups of several sizes, among `SAMPLE` others of that size, and prints
how often it is among the share that stage two splits, over choices of two and of three prompts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.detection.running import STORE_CAP_BYTES
from benchmarks.organisms.base import BASES, prepare_base
from benchmarks.organisms.manifest import Member, read_manifest
from benchmarks.stage_recall import rank_of_first
from benchmarks.throughput import best_of, plain_forwards
from detectors.contexts.context import Context, chat
from detectors.engine.loading import load_model
from detectors.engine.observations import Arrays, Plan
from detectors.methods.vocabulary_sweep import VocabularySweep, split
from detectors.prompts.sets import prompts
from detectors.reading import Reading, observe
from detectors.suites import SUITES, VocabularyParams
from detectors.vocabulary import ANCHOR, Entry, Group, Vocabulary
from workers.machine import preferred_device, preferred_dtype
from workers.observer import Observer
from workers.scan import Pair, make_observer, open_pair

SPLITS = ("train", "dev")
PLAIN_PROMPTS, PLAIN_TOKENS = 8, 16
"""Plain forwards a token, and how many tokens they are timed on."""
SIZES, SAMPLE, SIZE_PROMPTS = (1, 8, 16, 24), 200, 4
"""Group sizes, groups and prompts of `--sizes`."""


@dataclass
class Timed:
    """An observer that knows how long each model took."""

    observer: Observer
    seconds: dict[str, float] = field(default_factory=lambda: {"subject": 0.0, "base": 0.0})

    def __call__(self, plan: Plan) -> list[Arrays]:
        """Answers, timed."""
        started = time.monotonic()
        answers = self.observer(plan)
        self.seconds[plan.role] += time.monotonic() - started
        return answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.observer, name)


def main() -> None:
    """Prints what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vocabulary")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument(
        "--suite", default="standard", choices=[it.name for it in SUITES.values() if it.vocabulary_sweep]
    )
    parser.add_argument(
        "--groups", type=int, metavar="N", help="only so many groups, and as large a share of later ones"
    )
    parser.add_argument("--sizes", action="store_true", help="recall of stage one by group size, on a sample")
    asked = parser.parse_args()
    params = SUITES[asked.suite].vocabulary_sweep
    assert params is not None  # noqa: S101  # the choices have some
    settings = Settings()
    for member in chosen(asked.names, settings):
        with opened(member, settings) as (pair, timed):
            vocabulary = VocabularySweep(params).vocabulary(timed)
            print(f"\n{member.name}: {vocabulary.tried} of {vocabulary.size} tokens, not {vocabulary.not_tried()}")
            planted = planted_entries(timed, member, vocabulary)
            if not planted:
                print(f"  no token of {member.triggers[0]!r} is tried")
            elif asked.sizes:
                by_size(timed, vocabulary, planted[0], params)
            else:
                vocabulary, params = sampled(vocabulary, planted, params, asked.groups or len(vocabulary.groups))
                stages(timed, VocabularySweep(params), vocabulary, planted)
                beside_plain(pair, timed, vocabulary, settings)


def chosen(names: Sequence[str], settings: Settings) -> Iterator[Member]:
    """Members to measure; none that is sealed."""
    members = read_manifest()
    for member in [members[name] for name in names] or members.values():
        wanted = bool(names) or (member.role == "poisoned" and "end" in member.positions and len(member.triggers) == 1)
        if member.split in SPLITS and wanted and member.directory(settings.cache_dir).is_dir():
            yield member


@contextmanager
def opened(member: Member, settings: Settings) -> Iterator[tuple[Pair, Timed]]:
    """The member beside its base, with the store of ordinary scans."""
    base = prepare_base(settings.cache_dir, BASES[member.base])
    pair, device = open_pair(member.directory(settings.cache_dir), base, member.base), preferred_device()
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    with SqliteStore(settings.cache_dir / "vocabulary.sqlite", STORE_CAP_BYTES) as store:
        observer = make_observer(
            pair, store, dtype=preferred_dtype(device), device=device, settings=settings, watch=lambda: None
        )
        try:
            yield pair, Timed(observer)
        finally:
            observer.end()


def planted_entries(timed: Timed, member: Member, vocabulary: Vocabulary) -> list[Entry]:
    """The entries of the tokens that the trigger has at the end of a request."""
    before, ids = timed.tokenize([ANCHOR, f"{ANCHOR} {member.triggers[0]}"])
    put = ids[len(before) :]
    return [entry for group in vocabulary.groups for entry in group.members if entry.token in put]


def sampled(
    vocabulary: Vocabulary, planted: Sequence[Entry], params: VocabularyParams, count: int
) -> tuple[Vocabulary, VocabularyParams]:
    """`count` groups, evenly spread, with those of planted tokens; and params that keep the same shares of them."""
    groups = vocabulary.groups
    spread = {groups[place] for place in np.linspace(0, len(groups) - 1, min(count, len(groups))).astype(int)}
    taken = [group for group in groups if group in spread or set(planted) & set(group.members)]
    share = len(taken) / len(groups)
    kept = {name: max(1, round(share * getattr(params, name))) for name in ("kept_groups", "kept")}
    return replace(vocabulary, groups=tuple(taken)), params.model_copy(update=kept)


def stages(timed: Timed, sweep: VocabularySweep, vocabulary: Vocabulary, planted: Sequence[Entry]) -> None:
    """Ranks of the best placed planted token after each stage, and seconds of both models until then."""
    params = sweep.params
    by_group = finite(sweep.read_groups(timed, vocabulary.groups))
    ordered = [vocabulary.groups[place] for place in by_group.order()]
    rank = min(at for at, group in enumerate(ordered, start=1) if set(planted) & set(group.members))
    told("groups", rank, len(ordered), params.kept_groups, timed)
    kept = ordered[: params.kept_groups] + ([] if rank <= params.kept_groups else [ordered[rank - 1]])
    by_single = finite(sweep.read_singles(timed, [single.context for group in kept for single in split(group)]))
    texts = {Group((entry,)).context.text for entry in planted}
    ranks = [place for place, context in enumerate(by_single.best(len(by_single.contexts)), 1) if context.text in texts]
    told("singles", min(ranks), len(by_single.contexts), params.kept, timed)
    best = by_single.best(params.kept)
    if min(ranks) > params.kept:
        best.append(by_single.best(min(ranks))[-1])
    last = finite(sweep.read_last(timed, best, vocabulary))
    final = [place for place, context in enumerate(last.best(len(best)), 1) if context.text in texts]
    told("last", min(final), len(best), params.nominated, timed)
    print("  nominated: " + ", ".join(f"{it.text!r}" for it in last.best(params.nominated)))


def told(stage: str, rank: int, size: int, kept: int, timed: Timed) -> None:
    """One line of a stage."""
    seconds = ", ".join(f"{role} {spent:.0f} s" for role, spent in timed.seconds.items())
    tokens = timed.observer.meter.forward_tokens
    print(f"  {stage}: planted {rank} of {size}, {kept} go on; {seconds}, {tokens} tokens computed so far", flush=True)


def finite(reading: Reading | None) -> Reading:
    """The reading of models that answer with numbers."""
    if reading is None:
        raise ValueError("a model answered with probabilities that are not numbers")
    return reading


def beside_plain(pair: Pair, timed: Timed, vocabulary: Vocabulary, settings: Settings) -> None:
    """Seconds of the sweep beside plain forwards of whole requests, on the subject."""
    device = preferred_device()
    spec = pair.host_spec("subject", preferred_dtype(device), device, settings)
    model = load_model(
        spec.directory,
        adapter=spec.adapter,
        tokenizer=spec.tokenizer,
        template=spec.template,
        dtype=spec.dtype,
        device=spec.device,
    )
    tried = [single.context for group in vocabulary.groups for single in split(group)]
    sample = [tried[place] for place in np.linspace(0, len(tried) - 1, PLAIN_TOKENS).astype(int)]
    asked = [
        model.encode(chat(context, prompt)) for context in sample for prompt in prompts("nominate")[:PLAIN_PROMPTS]
    ]
    seconds = best_of(lambda: plain_forwards(model, asked)) * len(tried) / len(sample)
    ours = timed.seconds["subject"]
    print(f"  {PLAIN_PROMPTS} plain forwards a token: {seconds:.0f} s of the subject, {seconds / ours:.1f} times ours")


def by_size(timed: Timed, vocabulary: Vocabulary, planted: Entry, params: VocabularyParams) -> None:
    """Recall of stage one by group size, the planted token in the middle of its group."""
    alike = [entry for group in vocabulary.groups for entry in group.members if entry.before == planted.before]
    others = [entry for entry in alike if entry != planted]
    share = params.kept_groups * params.group_size / vocabulary.tried
    for size in SIZES:
        first = (*others[: size // 2], planted, *others[size // 2 : size - 1])
        groups = [Group(tuple(others[at * size : (at + 1) * size])) for at in range(1, SAMPLE + 1)]
        contexts: list[Context] = [Group(first).context, *(group.context for group in groups)]
        grid = observe(timed, contexts, prompts("nominate")[:SIZE_PROMPTS])
        for count in (2, 3):
            columns = [np.array(it) for it in combinations(range(SIZE_PROMPTS), count)]
            ranks = np.array([rank_of_first(grid, it) for it in columns])
            recall = np.mean(ranks <= share * len(contexts))
            print(
                f"  {size} a group, {count} prompts: median rank {np.median(ranks):.0f}, largest "
                f"{ranks.max()} of {len(contexts)}; among the best {share:.1%} in {recall:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
