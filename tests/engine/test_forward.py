"""The engine against plain, unbatched forward passes of transformers: same numbers, whatever the batching."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from detectors.engine import forward, prefixes
from detectors.engine.batches import Query
from detectors.engine.forward import Engine
from detectors.engine.observations import (
    TOP,
    TRACE_TOP,
    Answer,
    Arrays,
    Gains,
    Hidden,
    NextToken,
    Read,
    Score,
    Tokens,
    Trace,
    check,
)
from detectors.errors import ContextTooLong
from tests.engine.tiny import SPECIALS, WINDOW, tiny_network

STOPS = frozenset({SPECIALS.index("<|im_end|>"), SPECIALS.index("<|endoftext|>")})
BUDGET = 2**28
SLIDING = 8
TOLERANCE = 1e-4

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.2,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2_SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "n_positions": WINDOW,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA: dict[str, Any] = SIZES | {"head_dim": 8, "sliding_window": SLIDING, "query_pre_attn_scalar": 8}
ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny_network(seed=3, vocab=300, layers=3),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "mistral_sliding": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=SLIDING)),
    "gemma2_softcap": lambda: Gemma2ForCausalLM(Gemma2Config(**GEMMA, final_logit_softcapping=5.0)),
    "gemma3_sliding": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**GEMMA, layer_types=["sliding_attention", "sliding_attention", "full_attention"])
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(**{name: value for name, value in SIZES.items() if name != "num_key_value_heads"})
    ),
}


def make(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ARCHITECTURES[name]().eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices of 32 columns are not worth waking a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def passes_are_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences of a few tokens share their prefixes too, as long ones do."""
    monkeypatch.setattr(prefixes, "PASS_COST", 5)


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_network(seed=3, vocab=300)


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def network(request: pytest.FixtureRequest) -> Any:
    return make(request.param)


def engine(network: Any, **changes: Any) -> Engine:
    arguments: dict[str, Any] = {"stop_ids": STOPS, "window": WINDOW, "memory_budget": BUDGET} | changes
    return Engine(network, **arguments)


def grid(seed: int = 0) -> list[Tokens]:
    """Two prompts with contexts at the end and at the start, of lengths that differ, longer than a sliding window."""
    generator = np.random.default_rng(seed)
    head, tail = (1, 5, 6), (2, 7)
    prompts = [tuple(map(int, generator.integers(4, 300, size))) for size in (21, 14)]
    contexts = [tuple(map(int, generator.integers(4, 300, size))) for size in (0, 1, 2, 2, 5, 9)]
    at_end = [(*head, *prompt, *context, *tail) for context in contexts for prompt in prompts]
    at_start = [(*head, *context, *prompt, *tail) for context in contexts[1:] for prompt in prompts]
    return [*at_end, *at_start, (9,), (9, 10)]


def reads_of_all_kinds(sequences: Sequence[Tokens]) -> list[Query]:
    kinds: list[Callable[[int], Read]] = [
        lambda length: NextToken(named=(4, 299, 17)),
        lambda length: Score(min(3, length - 1)),
        lambda length: Trace(min(4, length - 1)),
        lambda length: Hidden((0, 1, 2)),
        lambda length: Answer(5),
        lambda length: Answer(6, temperature=0.8, seed=length),
    ]
    return [Query(sequence, kind(len(sequence))) for sequence in sequences for kind in kinds]


@torch.inference_mode()
def plain_logp(network: Any, tokens: Tokens) -> Any:
    output = network(input_ids=torch.tensor([tokens]), use_cache=False)
    return output.logits[0].float().log_softmax(-1).numpy()


def assert_same(found: Sequence[Arrays], wanted: Sequence[Arrays], tolerance: float = TOLERANCE) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            if name in ("ids", "tokens", "stopped"):
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
            else:
                np.testing.assert_allclose(ours[name], theirs[name], atol=tolerance, rtol=tolerance, err_msg=name)


def test_next_token_matches_a_plain_pass(network: Any) -> None:
    sequences = grid()
    named = (4, 299, 17)
    read = NextToken(named)
    for tokens, found in zip(sequences, engine(network).observe([Query(it, read) for it in sequences]), strict=True):
        check(read, found)
        logp = plain_logp(network, tokens)[-1].astype(np.float64)
        kept = np.sort(logp)[::-1][:TOP]
        np.testing.assert_allclose(found["logp"], kept, atol=TOLERANCE)
        np.testing.assert_allclose(found["logp"], logp[found["ids"]], atol=TOLERANCE)
        assert len(set(found["ids"].tolist())) == TOP
        np.testing.assert_allclose(np.exp(found["rest"]), [1 - np.exp(kept).sum()], atol=1e-5)
        np.testing.assert_allclose(found["floor"], [logp.min()], atol=TOLERANCE)
        np.testing.assert_allclose(found["entropy"], [-(np.exp(logp) * logp).sum()], atol=TOLERANCE)
        np.testing.assert_allclose(found["named"], logp[list(named)], atol=TOLERANCE)


def test_score_matches_a_plain_pass(network: Any) -> None:
    queries = [Query(it, Score(size)) for it in grid() for size in (1, 4, len(it) - 1) if 0 < size < len(it)]
    for query, found in zip(queries, engine(network).observe(queries), strict=True):
        check(query.read, found)
        tokens, size = query.tokens, len(found["logp"])
        logp = plain_logp(network, tokens)
        wanted = [logp[at - 1, tokens[at]] for at in range(len(tokens) - size, len(tokens))]
        np.testing.assert_allclose(found["logp"], wanted, atol=TOLERANCE)


def test_trace_matches_a_plain_pass(network: Any) -> None:
    queries = [Query(it, Trace(size)) for it in grid() for size in (1, 4, len(it) - 1) if 0 < size < len(it)]
    for query, found in zip(queries, engine(network).observe(queries), strict=True):
        check(query.read, found)
        size = len(found["entropy"])
        logp = plain_logp(network, query.tokens)[-size - 1 : -1].astype(np.float64)
        np.testing.assert_allclose(found["entropy"], -(np.exp(logp) * logp).sum(axis=1), atol=TOLERANCE)
        np.testing.assert_allclose(found["logp"], -np.sort(-logp, axis=1)[:, :TRACE_TOP], atol=TOLERANCE)
        np.testing.assert_allclose(found["logp"], np.take_along_axis(logp, found["ids"], axis=1), atol=TOLERANCE)
        assert all(len(set(row)) == TRACE_TOP for row in found["ids"].tolist())


def test_gains_are_slopes_of_the_log_probability(network: Any) -> None:
    """A small step from a token's embedding toward another's changes the last tokens' log-probability as told."""
    step = 1e-2
    tokens = grid()[3]
    queries = [Query(tokens, Gains(2, first, count)) for first, count in ((4, 2), (7, 1))]
    queries.append(Query(tokens[:-3], Gains(1, 5, 3)))
    embed = network.get_input_embeddings()
    for query, found in zip(queries, engine(network).observe(queries), strict=True):
        check(query.read, found)
        assert (np.diff(found["gains"], axis=1) <= 0).all()
        for row, (ids, gains) in enumerate(zip(found["ids"], found["gains"], strict=True)):
            for token, gain in ((ids[0], float(gains[0])), (ids[-1], float(gains[-1]))):
                moved = [stepped(network, embed, query, row, int(token), by) for by in (step, -step)]
                assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(gain, abs=2e-3 + 0.02 * abs(gain))


@torch.inference_mode()
def stepped(network: Any, embed: Any, query: Query, row: int, token: int, by: float) -> float:
    """Log-probability of a query's last tokens, one of its embeddings a step on the way to another token's."""
    read = query.read
    assert isinstance(read, Gains)
    entering = embed(torch.tensor([query.tokens])).clone()
    place = read.first + row
    entering[0, place] += by * (embed(torch.tensor(token)) - entering[0, place])
    logp = network(inputs_embeds=entering, use_cache=False).logits[0].double().log_softmax(-1)
    length = len(query.tokens)
    return float(sum(logp[at - 1, query.tokens[at]] for at in range(length - read.n_tokens, length)))


def test_hidden_matches_a_plain_pass(network: Any) -> None:
    read = Hidden((0, 2, 3))
    sequences = grid()
    for tokens, found in zip(sequences, engine(network).observe([Query(it, read) for it in sequences]), strict=True):
        check(read, found)
        with torch.inference_mode():
            states = network(torch.tensor([tokens]), output_hidden_states=True, use_cache=False).hidden_states
        wanted = np.stack([states[layer][0, -1].numpy() for layer in read.layers])
        np.testing.assert_allclose(found["hidden"], wanted, atol=TOLERANCE, rtol=TOLERANCE)


def test_greedy_answers_are_those_of_generate(network: Any) -> None:
    read = Answer(12)
    sequences = grid()
    for tokens, found in zip(sequences, engine(network).observe([Query(it, read) for it in sequences]), strict=True):
        check(read, found)
        said = network.generate(
            torch.tensor([tokens]),
            attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
            eos_token_id=sorted(STOPS),
            pad_token_id=3,
        )[0, len(tokens) :].tolist()
        stopped = said[-1] in STOPS
        assert found["tokens"].tolist() == (said[:-1] if stopped else said)
        assert bool(found["stopped"][0]) == stopped
        answer = (*tokens, *found["tokens"].tolist())
        logp = plain_logp(network, answer)
        wanted = [logp[at - 1, answer[at]] for at in range(len(tokens), len(answer))]
        np.testing.assert_allclose(found["logp"], wanted, atol=TOLERANCE)


def test_answers_end_before_a_stop_token(llama: Any) -> None:
    tokens = grid()[0]
    free = engine(llama, stop_ids=frozenset()).observe([Query(tokens, Answer(8))])[0]
    assert (len(free["tokens"]), free["stopped"].tolist()) == (8, [0])
    third = int(free["tokens"][3])
    until = free["tokens"].tolist().index(third)
    ended = engine(llama, stop_ids=frozenset({third})).observe([Query(tokens, Answer(8))])[0]
    assert ended["tokens"].tolist() == free["tokens"].tolist()[:until]
    assert ended["stopped"].tolist() == [1]


def test_nothing_depends_on_batches_order_or_sharing(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = reads_of_all_kinds([tokens for tokens in grid() if len(tokens) > 1][::2])
    together = engine(network).observe(queries)
    assert_same(engine(network, share=False).observe(queries), together)
    assert_same(engine(network, memory_budget=1).observe(queries), together)
    order = np.random.default_rng(0).permutation(len(queries))
    shuffled = engine(network).observe([queries[place] for place in order])
    assert_same([shuffled[place] for place in np.argsort(order)], together)
    alone = engine(network)
    assert_same([alone.observe([query])[0] for query in queries], together)
    monkeypatch.setattr(forward, "MAX_BATCH_TOKENS", 60)
    assert_same(engine(network).observe(queries), together)
    assert_same(engine(network, workers=3).observe(queries), together)


def test_prefixes_are_shared_and_the_projection_sees_only_what_is_read(llama: Any) -> None:
    prompt = tuple(range(10, 200))
    sequences = [(*prompt, context, 2) for context in range(20, 60)]
    seen: list[int] = []
    projected: list[int] = []
    hooks = [
        llama.model.embed_tokens.register_forward_hook(lambda _, given, out: seen.append(given[0].numel())),
        llama.lm_head.register_forward_hook(lambda _, given, out: projected.append(out.shape[-2])),
    ]
    try:
        engine(llama).observe([Query(tokens, NextToken()) for tokens in sequences])
        shared, seen[:] = sum(seen), []
        assert sum(projected) == len(sequences)
        engine(llama).observe([Query(tokens, Hidden((1,))) for tokens in sequences])
        assert sum(projected) == len(sequences)
        seen.clear()
        engine(llama, share=False).observe([Query(tokens, NextToken()) for tokens in sequences])
    finally:
        for hook in hooks:
            hook.remove()
    assert shared == len(prompt) + 2 * len(sequences)
    assert sum(seen) == len(prompt) * len(sequences) + 2 * len(sequences)


def test_sampled_answers_follow_their_seed(llama: Any) -> None:
    tokens = grid()[0]
    queries = [Query(tokens, Answer(10, temperature=1.5, seed=seed)) for seed in (1, 2, 1, 3)]
    found = [arrays["tokens"].tolist() for arrays in engine(llama, stop_ids=frozenset()).observe(queries)]
    assert found[0] == found[2]
    assert len({tuple(answer) for answer in found}) == 3


def test_samples_have_the_models_distribution(llama: Any) -> None:
    tokens, draws, temperature = (1, 5, 6), 1500, 0.7
    queries = [Query(tokens, Answer(1, temperature=temperature, seed=seed)) for seed in range(draws)]
    found = engine(llama, stop_ids=frozenset()).observe(queries)
    counts = np.bincount([int(arrays["tokens"][0]) for arrays in found], minlength=300)
    logits = plain_logp(llama, tokens)[-1] / temperature
    wanted = np.exp(logits - np.logaddexp.reduce(logits))
    likely = int(wanted.argmax())
    spread = np.sqrt(draws * wanted[likely] * (1 - wanted[likely]))
    assert abs(counts[likely] - draws * wanted[likely]) < 5 * spread
    assert 0.5 * np.abs(counts / draws - wanted).sum() < 0.25


def tiny_vocabulary(size: int) -> Any:
    config = copy.deepcopy(tiny_network(seed=0).config)
    config.vocab_size = size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return type(tiny_network(seed=0))(config).eval()


def test_vocabulary_below_top() -> None:
    small = tiny_vocabulary(40)
    read = NextToken(named=(39,))
    found = check(read, engine(small).observe([Query((1, 5, 6), read)])[0])
    logp = plain_logp(small, (1, 5, 6))[-1]
    np.testing.assert_allclose(found["logp"][:40], np.sort(logp)[::-1], atol=TOLERANCE)
    assert sorted(found["ids"][:40].tolist()) == list(range(40))
    assert (found["ids"][40:] == -1).all()
    assert np.isneginf(found["logp"][40:]).all()
    assert np.isneginf(found["rest"]).all()
    assert_same(engine(small).observe([Query((1, 5, 6), read)] * 2), [found, found])


def test_vocabulary_below_the_top_of_a_trace() -> None:
    small = tiny_vocabulary(40)
    found = check(Trace(2), engine(small).observe([Query((1, 5, 6), Trace(2))])[0])
    np.testing.assert_allclose(found["logp"][:, :40], -np.sort(-plain_logp(small, (1, 5, 6))[:2]), atol=TOLERANCE)
    assert [sorted(row) for row in found["ids"][:, :40].tolist()] == [list(range(40))] * 2
    assert (found["ids"][:, 40:] == -1).all()
    assert np.isneginf(found["logp"][:, 40:]).all()


def test_a_trace_projects_only_what_it_reads(llama: Any) -> None:
    projected: list[int] = []
    hook = llama.lm_head.register_forward_hook(lambda _, given, out: projected.append(out.shape[-2]))
    try:
        engine(llama, share=False).observe([Query(tuple(range(4, 60)), Trace(size)) for size in (3, 5)])
    finally:
        hook.remove()
    assert sum(projected) == 3 + 5


def test_long_traces_are_held_in_small_batches(llama: Any) -> None:
    """Five tables of the vocabulary a token that is read: the budget counts them."""
    rows: list[int] = []
    hook = llama.model.embed_tokens.register_forward_hook(lambda _, given, out: rows.append(given[0].shape[0]))
    tokens, vocabulary = tuple(range(4, 60)), 300
    try:
        tight = engine(llama, share=False, memory_budget=2 * 4 * 5 * 50 * vocabulary)
        tight.observe([Query((*tokens, last), Trace(50)) for last in range(60, 66)])
        assert max(rows) == 1
        rows.clear()
        tight.observe([Query((*tokens, last), Trace(1)) for last in range(60, 66)])
        assert max(rows) > 1
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("length", "read", "given"),
    [(WINDOW + 1, NextToken(), WINDOW + 1), (WINDOW - 4, Answer(5), WINDOW + 1), (WINDOW + 9, Score(2), WINDOW + 9)],
)
def test_too_long_names_both_lengths(llama: Any, length: int, read: Read, given: int) -> None:
    fine = Query((5, 6), NextToken())
    with pytest.raises(ContextTooLong) as caught:
        engine(llama).observe([fine, Query((5,) * length, read)])
    assert f" {given} tokens" in str(caught.value)
    assert f" {WINDOW};" in str(caught.value)


def test_the_whole_window_can_be_used(llama: Any) -> None:
    queries = [Query((5,) * (WINDOW - 3), Answer(3)), Query((5,) * WINDOW, NextToken())]
    answer, last = engine(llama, stop_ids=frozenset()).observe(queries)
    assert len(answer["tokens"]) == 3
    np.testing.assert_allclose(last["floor"], [plain_logp(llama, (5,) * WINDOW)[-1].min()], atol=TOLERANCE)


@pytest.mark.parametrize(("tokens", "read"), [((), NextToken()), ((5, 6), Score(2)), ((5, 6), Trace(2))])
def test_a_read_without_a_token_before_it_is_refused(llama: Any, tokens: Tokens, read: Read) -> None:
    with pytest.raises(ValueError, match=f"`{read.kind}` request needs a token before"):
        engine(llama).observe([Query(tokens, read)])


def test_nothing_asked_nothing_answered(llama: Any) -> None:
    assert engine(llama).observe([]) == []


def test_bfloat16_runs_and_stays_near_float32(llama: Any) -> None:
    half = copy.deepcopy(llama).to(torch.bfloat16)
    queries = reads_of_all_kinds(grid()[:6])
    found = engine(half).observe(queries)
    for query, arrays in zip(queries, found, strict=True):
        check(query.read, arrays)
        assert all(np.isfinite(array).all() for name, array in arrays.items() if name != "rest")
    ours, exact = found[0]["entropy"], engine(llama).observe(queries[:1])[0]["entropy"]
    np.testing.assert_allclose(ours, exact, atol=0.2)
