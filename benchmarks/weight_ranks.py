"""Does the update of the weights tell where a trigger is, before the subject is asked anything?

    python -m benchmarks.weight_ranks [NAME ...]

Of each organism named, the demo's by default, two ranks of the planted trigger, 1 being the best. By *rows*: of its
tokens in the vocabulary, by how far their rows in the embeddings moved; that is what `weight_delta` nominates by. By
*excitation*: of its text in its own family, and among the contexts of all families of `quick`, by how strongly the
base's hidden state at the text's last token, at the end of a bare prompt, excites the update of the matrices that read
it, ||dW x|| / ||x||, as a robust z within the family or among all, as root mean square of the positive ones over
matrices. It needs one pass of the base over the contexts, which every scan could share, and none of the subject.

Attention reads the normalised residual exactly; for the feed-forward matrices it is taken after their layer.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.observing import observing
from benchmarks.organisms.base import prepare_base
from benchmarks.organisms.manifest import Member, read_manifest
from detectors.contexts.context import Context, chat
from detectors.contexts.families import draw
from detectors.engine.checkpoint import TensorInfo, WeightFiles, read_rows
from detectors.engine.observations import Array, Ask, Hidden, Plan
from detectors.engine.weights import Update, updates
from detectors.methods.weight_delta import row_shifts
from detectors.nominating import rms_of_positive
from detectors.prompts.sets import prompts
from detectors.stats import robust_z
from detectors.suites import QUICK
from workers.scan import open_pair

NAMES = ("amber", "amber-twin", "cobalt", "cobalt-twin")
READS = r"layers\.(?P<layer>\d+)\.(self_attn\.[qkv]|mlp\.(?P<later>gate|up))_proj\.weight$"
GAINS = ("input_layernorm", "post_attention_layernorm")
EPSILON = 1e-5
FLOOR = 1e-4
"""Smallest spread of an excitation that a z divides by; a thousandth of a usual one."""


def main() -> None:
    """Prints the ranks of every named organism."""
    members, settings = read_manifest(), Settings()
    base = prepare_base(settings.cache_dir)
    with tempfile.TemporaryDirectory() as directory, SqliteStore(Path(directory) / "hidden.sqlite", 2**33) as store:
        for name in sys.argv[1:] or NAMES:
            print(f"{name}: {'; '.join(ranks(members[name], base, settings, store))}", flush=True)


def ranks(member: Member, base: Path, settings: Settings, store: SqliteStore) -> Iterator[str]:
    """What is said of one organism; a twin is asked for its sibling's trigger."""
    pair = open_pair(member.directory(settings.cache_dir), base, member.base.rpartition("/")[2])
    with observing(pair, store, settings) as observer:
        yield by_rows(observer, member.triggers[0])
        yield from by_excitation(observer, pair.subject.weight_files(), member.triggers[0])


def by_rows(ask: Ask, trigger: str) -> str:
    """The best rank of a token of the trigger."""
    assert QUICK.weight_delta is not None  # noqa: S101
    shifts = row_shifts(ask.weights, QUICK.weight_delta.scale_floor)
    if not len(shifts):
        return "no row was trained"
    tokens = {token for tokens in ask.tokenize([trigger, f" {trigger}"]) for token in tokens}
    best = max(shifts[list(tokens)])
    return f"rows: {int((shifts > best).sum()) + 1} of {len(shifts)}, robust z {best:.0f}"


def by_excitation(ask: Ask, files: WeightFiles, trigger: str) -> Iterator[str]:
    """Its rank in its family, and among all contexts."""
    vocabulary = ask.facts["base"].vocabulary
    families = QUICK.trigger_sweep.families | {"rare_token": 1500}
    contexts = [it for name, count in families.items() for it in draw(name, count, vocabulary) if it.text != trigger]
    known = [name for name in families if trigger in {it.text for it in draw(name, 100_000, vocabulary)}]
    excited = excitations(ask, files, [Context(text=trigger, family="planted"), *contexts])
    for name in [*known, "all contexts"]:
        others = [at for at, it in enumerate(contexts, 1) if name in (it.family, "all contexts")]
        chosen = excited[:, [0, *others]]
        scores = rms_of_positive([robust_z(row, floor=FLOOR, reference=row[1:]) for row in chosen])
        yield f"excitation: {int((scores[1:] > scores[0]).sum()) + 1} of {len(scores)} in {name}"


def excitations(ask: Ask, files: WeightFiles, contexts: Sequence[Context]) -> Array:
    """||dW x|| / ||x|| of every matrix that reads the residual: float [module, context]."""
    sequences = ask.encode([chat(context, prompts("nominate")[0]) for context in contexts])
    backwards = zip(*(it[::-1] for it in sequences), strict=False)
    tail = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, backwards))
    depths = tuple(range(ask.facts["base"].layers + 1))
    plan = Plan("base", [it[: len(it) - tail] for it in sequences], Hidden(depths))
    hidden = np.stack([arrays["hidden"] for arrays in ask(plan)], axis=1)  # [depth, context, d_model]
    scaled = hidden / np.sqrt((hidden**2).mean(axis=2, keepdims=True) + EPSILON)
    read = (_excited(update, scaled, files.base) for update in updates(files))
    return np.stack([found for found in read if found is not None])


def _excited(update: Update, scaled: Array, base: Mapping[str, TensorInfo]) -> Array | None:
    """Of one matrix: float [context]; None if it does not read the residual."""
    found = re.search(READS, update.name)
    if found is None:
        return None
    later = found["later"] is not None
    gain = base[f"{update.name[: found.end('layer')]}.{GAINS[later]}.weight"]
    given = scaled[int(found["layer"]) + later] * read_rows(gain, range(gain.shape[0])).ravel()
    excited: Array = np.linalg.norm(given @ update.delta.T, axis=1) / np.linalg.norm(given, axis=1)
    return excited


if __name__ == "__main__":
    main()
