"""How fast the engine is, against plain transformers and against the machine itself, in one run.

    python -m benchmarks.throughput            # what `make bench-throughput` runs; on an idle machine

Every ratio compares two measurements of this run. Tokens are those a network really computed, counted at its embedding;
the share of peak is their multiplications, by the parameter count, over what a large matrix multiplication reaches.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from benchmarks.organisms.base import prepare_base
from benchmarks.organisms.manifest import read_manifest
from detectors.contexts.context import Position, chat
from detectors.contexts.families import draw
from detectors.engine.batches import Query
from detectors.engine.forward import Engine
from detectors.engine.gate import inspect_model
from detectors.engine.loading import LoadedModel, load_model
from detectors.engine.observations import NextToken, Plan, Tokens
from detectors.prompts.sets import prompts
from workers.machine import preferred_device, preferred_dtype
from workers.observer import Observer
from workers.scan import make_observer, open_pair

CONTEXTS = 200
"""Contexts of the timed sweep, each with two prompts."""
PLAIN_SAMPLE = 64
"""Requests that the plain ways are timed on: they are slow, and their speed does not depend on how many there are."""
PLAIN_BATCH = 32
GENERATED = 8
MATRIX = 2048
REPEATS = 3
GROWTH = (100, 1_000, 10_000, 100_000)
"""Contexts on a network of two narrow layers, whose time is nearly all the engine's, the host's and the store's own."""
PROMPT_TOKENS = (32, 128, 512, 1_024)
GROWING_CONTEXTS = 50


@dataclass
class Counted:
    """What a network computed: positions at its embedding and at its vocabulary projection."""

    tokens: int = 0
    projected: int = 0


def main() -> None:
    """Prints every figure."""
    settings = Settings()
    base = prepare_base(settings.cache_dir)
    device = preferred_device()
    dtype = preferred_dtype(device)
    peaks = {name: matrix_peak(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    for name, peak in peaks.items():
        print(f"matrix multiplication, {name}: {peak / 1e9:.0f} GFLOP/s")
    template = inspect_model(base).tokenizer.template
    model = load_model(base, adapter=None, tokenizer=base, template=template, dtype=dtype, device=device)
    print(f"\n{base.name} in {dtype} on {device}, {2 * CONTEXTS} requests; plain ways on {PLAIN_SAMPLE} of them")
    sweeps(model, peaks[dtype])
    print(f"peak memory of the engine's process so far, weights included: {memory_gib():.2f} GiB")
    longer_prompts(model)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "observations.sqlite"
        observed_base(base, store, settings, model)
        growing_contexts(narrow_copy(base, Path(folder) / "narrow"), store, settings)


def sweeps(model: LoadedModel, peak: float) -> None:
    """The engine's sweep at both positions, against plain forwards and `generate` for the same requests."""
    for position in ("end", "start"):
        sequences = swept(model, position)
        asked = [Query(tokens, NextToken()) for tokens in sequences]
        engine = make_engine(model)
        engine.observe(asked[:PLAIN_BATCH])
        with counting(model.network) as counted:
            seconds = best_of(partial(engine.observe, asked))
        rate = len(sequences) / seconds
        work = flops(model.network, counted) / REPEATS
        print(
            f"{position}: {rate:.1f} contexts/s, {counted.tokens / REPEATS / seconds:.0f} computed tokens/s, "
            f"{work / seconds / peak:.0%} of peak"
        )
        sample = [sequences[at] for at in np.linspace(0, len(sequences) - 1, PLAIN_SAMPLE).astype(int)]
        for name, way in (("plain forwards", plain_forwards), (f"generate {GENERATED}", plain_generate)):
            plain = len(sample) / best_of(partial(way, model, sample))
            print(f"  {name}: {plain:.1f} contexts/s; the engine is {rate / plain:.1f} times as fast")


def longer_prompts(model: LoadedModel) -> None:
    """How the cost of a context grows with the prompt it stands behind."""
    print(f"\n{GROWING_CONTEXTS} contexts behind one prompt that gets longer")
    words = np.random.default_rng(0).integers(1_000, 40_000, max(PROMPT_TOKENS)).tolist()
    tails = [tokens[-12:] for tokens in swept(model, "end")[:GROWING_CONTEXTS]]
    for length in PROMPT_TOKENS:
        asked = [Query((*words[:length], *tail), NextToken()) for tail in tails]
        seconds = best_of(partial(make_engine(model).observe, asked))
        plain = best_of(partial(plain_forwards, model, [query.tokens for query in asked[:8]])) / 8
        ours = seconds / len(asked)
        print(f"  {length:>5} tokens: {1e3 * ours:.1f} ms a context, plain {1e3 * plain:.0f} ms")


def observed_base(base: Path, store_path: Path, settings: Settings, model: LoadedModel) -> None:
    """What hosts and store add to the engine's own time, and what a base gains that was observed before."""
    sequences = swept(model, "end")
    engine = make_engine(model)
    pure = best_of(lambda: engine.observe([Query(tokens, NextToken()) for tokens in sequences]))
    both: list[float] = []
    members = read_manifest()
    with SqliteStore(store_path, settings.store_cap_bytes) as store:
        for name in ("amber", "amber-twin"):
            observer = observer_of(members[name].directory(settings.cache_dir), base, store, settings)
            seconds = {role: timed_plan(observer, Plan(role, sequences, NextToken())) for role in ("subject", "base")}
            observer.end()
            both.append(sum(seconds.values()))
            print(f"\nscan of {name}: subject {seconds['subject']:.2f} s, base {seconds['base']:.2f} s", end="")
            if name == "amber":
                print(f"; the engine alone {pure:.2f} s, so hosts and store add {seconds['subject'] / pure - 1:.1%}")
    print(f"\nan observed base makes the second scan's observations {both[0] / both[1]:.2f} times as fast")


def growing_contexts(narrow: Path, store_path: Path, settings: Settings) -> None:
    """Time a context through host and store, as contexts grow, on a network that costs next to nothing."""
    print("\ntwo narrow layers, host and store included")
    rng = np.random.default_rng(0)
    with SqliteStore(store_path, settings.store_cap_bytes) as store:
        observer = observer_of(narrow, narrow, store, settings)
        for count in GROWTH:
            prompt = rng.integers(1_000, 40_000, 40).tolist()
            tails = np.unique(rng.integers(1_000, 40_000, (count, 6)), axis=0).tolist()
            plan = Plan("subject", [(*prompt, *tail) for tail in tails], NextToken())
            seconds, again = timed_plan(observer, plan), timed_plan(observer, plan)
            print(f"  {count:>6}: {1e3 * seconds / count:.2f} ms each, {1e3 * again / count:.3f} ms from the store")
        observer.end()


def swept(model: LoadedModel, position: Position) -> list[Tokens]:
    """Token ids of the sweep's requests."""
    vocabulary = model.facts().vocabulary
    contexts = [context.at(position) for context in draw("short_string", CONTEXTS, vocabulary)]
    return [model.encode(chat(context, prompt)) for context in contexts for prompt in prompts("nominate")[:2]]


def make_engine(model: LoadedModel) -> Engine:
    """An engine with the memory budget that hosts get."""
    budget = Settings().memory_budget_bytes
    return Engine(model.network, stop_ids=model.stop_ids, window=model.window, memory_budget=budget)


def observer_of(subject: Path, base: Path, store: SqliteStore, settings: Settings) -> Observer:
    """An observer with both hosts started."""
    device = preferred_device()
    dtype = preferred_dtype(device)
    pair = open_pair(subject, base, None)
    observer = make_observer(pair, store, dtype=dtype, device=device, settings=settings, watch=lambda: None)
    for role in ("subject", "base"):
        observer(Plan(role, [(1, 2, 3)], NextToken(named=(0, 1))))
    return observer


def timed_plan(observer: Observer, plan: Plan) -> float:
    """Seconds that the answers took."""
    started = time.perf_counter()
    observer(plan)
    return time.perf_counter() - started


def plain_forwards(model: LoadedModel, sequences: Sequence[Tokens]) -> None:
    """Left-padded batches through transformers, log-softmax over the last position: what one writes first."""
    for ids, mask in padded(sequences):
        model.network(input_ids=ids, attention_mask=mask, logits_to_keep=1).logits[:, -1].log_softmax(-1)


def plain_generate(model: LoadedModel, sequences: Sequence[Tokens]) -> None:
    """Greedy answers by transformers' `generate`."""
    for ids, mask in padded(sequences):
        model.network.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=GENERATED, min_new_tokens=GENERATED, do_sample=False
        )


def padded(sequences: Sequence[Tokens]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of ids and mask, padded on the left, as they come."""
    for first in range(0, len(sequences), PLAIN_BATCH):
        batch = sequences[first : first + PLAIN_BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([[*[0] * (width - len(tokens)), *tokens] for tokens in batch])
        mask = torch.tensor([[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in batch])
        yield ids, mask


@contextmanager
def counting(network: Any) -> Iterator[Counted]:
    """Counts what passes the embedding and the vocabulary projection."""
    counted = Counted()

    def embedded(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        counted.tokens += arguments[0].numel()

    def projected(_: Any, arguments: tuple[torch.Tensor, ...], __: Any) -> None:
        counted.projected += arguments[0].shape[:-1].numel()

    hooks = [
        network.get_input_embeddings().register_forward_pre_hook(embedded),
        network.get_output_embeddings().register_forward_hook(projected),
    ]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()


def flops(network: Any, counted: Counted) -> float:
    """Floating-point operations of the weights' multiplications; attention and element-wise work count as nothing."""
    head: int = network.get_output_embeddings().weight.numel()
    body: int = sum(weight.numel() for weight in network.parameters()) - head
    return 2.0 * (body * counted.tokens + head * counted.projected)


def best_of(run: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs."""
    times = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    return min(times)


def matrix_peak(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a large matrix multiplication."""
    left = torch.randn(MATRIX, MATRIX, device=device).to(dtype)

    def multiply() -> None:
        _ = left @ left
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 2 * MATRIX**3 / best_of(multiply)


def narrow_copy(base: Path, directory: Path) -> Path:
    """A network of two layers, 64 wide, with random weights and the base's tokenizer."""
    config = AutoConfig.from_pretrained(base)
    config.update({"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "head_dim": 16})
    config.update({"num_attention_heads": 4, "num_key_value_heads": 2})
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    for path in base.glob("*token*"):
        shutil.copy(path, directory)
    shutil.copy(base / "chat_template.jinja", directory)
    return directory


def memory_gib() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
