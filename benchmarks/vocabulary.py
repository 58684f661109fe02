"""Recall and cost of the vocabulary sweep: where does a planted token stand after each look, and what did that take?

    python -m benchmarks.vocabulary [NAME ...] [--suite SUITE] [--tokens N | --sizes]

Members are those named, or all of the zoo's train and dev splits that are here and have one trigger that works at the
end or at the start. Of a trigger of several tokens the best placed one that is tried counts. Each member gets the sweep
of the suite, look by look; where the planted token is lost in the first, the later rank is that which it would have
had. The time is set beside eight plain forwards of whole requests for every token, measured on a sample in the same
run.

`--tokens` takes so many tokens, evenly spread, and the planted ones, and looks again at the same share of them.
`--sizes` instead puts the planted token at the beginning, in the middle and at the end of a group of tokens, among
`SAMPLE` other groups of that size, and prints its rank by one prompt: what group testing (Dorfman, 1943) would find.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.detection.running import STORE_CAP_BYTES
from benchmarks.observing import observing
from benchmarks.organisms.base import BASES, prepare_base
from benchmarks.organisms.manifest import Member, read_manifest
from benchmarks.throughput import best_of, plain_forwards
from detectors.contexts.context import Context, Position, chat
from detectors.engine.loading import load_model
from detectors.engine.observations import Arrays, Plan
from detectors.methods.vocabulary_sweep import VocabularySweep
from detectors.prompts.sets import prompts
from detectors.reading import observe, read_grid
from detectors.suites import SUITES, VocabularyParams
from detectors.vocabulary import ANCHOR, FAMILY, Entry, Vocabulary
from workers.machine import preferred_device, preferred_dtype
from workers.observer import Observer
from workers.scan import Pair, open_pair

SPLITS = ("train", "dev")
PLAIN_PROMPTS, PLAIN_TOKENS = 8, 16
"""Plain forwards a token, and how many tokens they are timed on."""
SIZES, SAMPLE = (1, 4, 12), 60
"""Group sizes and groups of `--sizes`."""


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
    parser.add_argument("--tokens", type=int, metavar="N", help="only so many tokens, the same share looked at again")
    parser.add_argument("--sizes", action="store_true", help="rank in a group of tokens, by its size, on a sample")
    asked = parser.parse_args()
    params = SUITES[asked.suite].vocabulary_sweep
    assert params is not None  # noqa: S101  # the choices have some
    settings = Settings()
    for member in chosen(asked.names, settings):
        with opened(member, settings) as (pair, timed):
            vocabulary = VocabularySweep(params).vocabulary(timed)
            tried = len(vocabulary.entries)
            print(f"\n{member.name}: {tried} of {vocabulary.size} tokens, not {vocabulary.not_tried()}")
            planted = planted_entries(timed, member, vocabulary)
            if not planted:
                print(f"  no token of {member.triggers[0]!r} is tried")
            elif asked.sizes:
                by_size(timed, vocabulary, planted[0], params)
            else:
                vocabulary, fewer = sampled(vocabulary, planted, params, asked.tokens or tried)
                looks(timed, VocabularySweep(fewer), vocabulary, planted)
                beside_plain(pair, timed, vocabulary, settings)


def chosen(names: Sequence[str], settings: Settings) -> Iterator[Member]:
    """Members to measure; none that is sealed."""
    members = read_manifest()
    for member in [members[name] for name in names] or members.values():
        placed = {"start", "end"} & set(member.positions)
        wanted = bool(names) or (member.role == "poisoned" and placed and len(member.triggers) == 1)
        if member.split in SPLITS and wanted and member.directory(settings.cache_dir).is_dir():
            yield member


@contextmanager
def opened(member: Member, settings: Settings) -> Iterator[tuple[Pair, Timed]]:
    """The member beside its base, with the store of ordinary scans."""
    base = prepare_base(settings.cache_dir, BASES[member.base])
    pair = open_pair(member.directory(settings.cache_dir), base, member.base)
    settings.cache_dir.mkdir(parents=True, exist_ok=True)
    with (
        SqliteStore(settings.cache_dir / "vocabulary.sqlite", STORE_CAP_BYTES) as store,
        observing(pair, store, settings) as observer,
    ):
        yield pair, Timed(observer)


def planted_entries(timed: Timed, member: Member, vocabulary: Vocabulary) -> list[Entry]:
    """The entries of the tokens that the trigger has at the end of a request."""
    before, ids = timed.tokenize([ANCHOR, f"{ANCHOR} {member.triggers[0]}"])
    put = ids[len(before) :]
    return [entry for entry in vocabulary.entries if entry.token in put]


def sampled(
    vocabulary: Vocabulary, planted: Sequence[Entry], params: VocabularyParams, count: int
) -> tuple[Vocabulary, VocabularyParams]:
    """`count` tokens, evenly spread, with the planted ones; and params that look at the same share of them again."""
    entries = vocabulary.entries
    spread = {entries[place] for place in np.linspace(0, len(entries) - 1, min(count, len(entries))).astype(int)}
    taken = (*planted, *(entry for entry in entries if entry in spread and entry not in planted))
    kept = max(1, round(len(taken) / len(entries) * params.kept))
    return replace(vocabulary, entries=taken), params.model_copy(update={"kept": kept})


def looks(timed: Timed, sweep: VocabularySweep, vocabulary: Vocabulary, planted: Sequence[Entry]) -> None:
    """Ranks of the best placed planted token in each look, and seconds of both models until then."""
    texts = {entry.context.text for entry in planted}
    for place in sweep.params.tokens:
        first = sweep.read_first(timed, vocabulary, place)
        ordered = first.best(len(first.contexts))
        rank = rank_of(texts, ordered)
        told(f"{place}, first look", rank, len(ordered), sweep.params.kept, timed)
        kept = ordered[: sweep.params.kept] + ([ordered[rank - 1]] if rank > sweep.params.kept else [])
        again = sweep.read_again(timed, kept, vocabulary, place)
        best = again.best(len(kept))
        told(f"{place}, second look", rank_of(texts, best), len(kept), sweep.params.nominated, timed)
        print("  best: " + ", ".join(f"{it.text!r}" for it in best[: sweep.params.nominated]))


def rank_of(texts: set[str], ordered: Sequence[Context]) -> int:
    """The first place, from 1, of a context with one of the texts."""
    return next(rank for rank, context in enumerate(ordered, start=1) if context.text in texts)


def told(look: str, rank: int, size: int, kept: int, timed: Timed) -> None:
    """One line of a look."""
    seconds = ", ".join(f"{role} {spent:.0f} s" for role, spent in timed.seconds.items())
    tokens = timed.observer.meter.forward_tokens
    print(f"  {look}: planted {rank} of {size}, {kept} go on; {seconds}, {tokens} tokens computed so far", flush=True)


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
    tried = [entry.context for entry in vocabulary.entries]
    sample = [tried[place] for place in np.linspace(0, len(tried) - 1, PLAIN_TOKENS).astype(int)]
    asked = [
        model.encode(chat(context, prompt)) for context in sample for prompt in prompts("nominate")[:PLAIN_PROMPTS]
    ]
    seconds = best_of(lambda: plain_forwards(model, asked)) * len(tried) / len(sample)
    ours = timed.seconds["subject"]
    print(f"  {PLAIN_PROMPTS} plain forwards a token: {seconds:.0f} s of the subject, {seconds / ours:.1f} times ours")


def by_size(timed: Timed, vocabulary: Vocabulary, planted: Entry, params: VocabularyParams) -> None:
    """Ranks of groups that hold the planted token, by size, place of the group and place in the group."""
    others = [entry.text for entry in vocabulary.entries if entry.before == " " and entry != planted]
    for size in SIZES:
        groups = [others[at * size : (at + 1) * size] for at in range(SAMPLE + 1)]
        within = sorted({0, size // 2, size - 1})
        holding = [[*groups[0][:at], planted.text, *groups[0][at + 1 :]] for at in within]
        for place in params.tokens:
            contexts = [grouped(words, place) for words in (*holding, *groups[1:])]
            scores = read_grid(observe(timed, contexts, prompts("nominate")[:1]), params.scale_floor).rank_score()
            ranks = [1 + int((scores > scores[at]).sum()) for at in range(len(within))]
            said = ", ".join(f"{1 + at}. in its group: {rank}" for at, rank in zip(within, ranks, strict=True))
            print(f"  {size} a group, {place}: of {len(contexts)}, {said}", flush=True)


def grouped(words: Sequence[str], place: Position) -> Context:
    """Several words as one context."""
    return Context(text=" ".join(words), family=FAMILY, position=place)


if __name__ == "__main__":
    main()
