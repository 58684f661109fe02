"""Forward passes: requests in, observations out, whatever the batching.

Rows of a batch share a prefix that was computed once (`detectors.engine.prefixes`) and are padded on the right, where
causal attention never looks, so neither masks nor position offsets are needed for a single pass. The vocabulary
projection runs only where something is read. Memory is held below a budget by the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import accumulate, chain, groupby
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from detectors.engine.batches import Batch, Query, project_where_told, projecting_nothing, projecting_only, widen
from detectors.engine.cascade import behind, use_cascade
from detectors.engine.crew import Crew, default_size
from detectors.engine.generation import Begun, Generation, Prefilled, begin_together, bring_together, prefill
from detectors.engine.observations import (
    GAINS_TOP,
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
)
from detectors.engine.prefixes import Group, share_prefixes
from detectors.errors import ContextTooLong

T = TypeVar("T")
_Part = tuple[list[int], Future[Prefilled]]

GENERATION_FACTOR = 8
"""Generation goes over its rows once a token, one column wide; a padded batch of it needs more rows to be saturated."""
MAX_BATCH_TOKENS = 1024
"""Tokens computed in one pass: enough to saturate the matrix multiplications, few enough to stay in cache."""
MIN_BATCH_TOKENS = 256
"""Fewer are not worth a pass of their own, even where a worker has nothing to do."""
ROWS_A_WORKER = 20
"""Answers that are worth a worker of their own: below, reading the weights takes longer than multiplying."""
EMBEDDED = 1 << 15
"""Tokens of the vocabulary whose embeddings are read at a time."""
BATCHES_A_WORKER = 2
"""So many passes each worker should get, so that none waits long for the last."""


class Engine:
    """Answers queries on one network.

    Args:
        network: a transformers causal language model in evaluation mode.
        stop_ids: token ids that end an answer.
        window: longest sequence, generated tokens included.
        memory_budget: bytes that caches and activations of one batch may take.
        share: whether shared prefixes are computed once; off only to measure what it gains.
        workers: passes side by side; by default as many as torch has threads.
    """

    def __init__(
        self,
        network: Any,
        *,
        stop_ids: frozenset[int],
        window: int,
        memory_budget: int,
        share: bool = True,
        workers: int | None = None,
    ) -> None:
        self._network = network
        self._stop_ids = stop_ids
        self._window = window
        self._memory_budget = memory_budget
        self._config = network.config.get_text_config(decoder=True)
        layers = {type(layer) for layer in DynamicCache(config=self._config).layers}
        # Recurrent layers keep a state that cannot be cut to rows as keys and values can.
        self._share = share and layers <= {DynamicLayer, DynamicSlidingWindowLayer}
        # Windows and recurrent states count the padding between a short request and its answer as text.
        self._pads_answers = layers <= {DynamicLayer}
        self._cascades = self._share and layers <= {DynamicLayer} and use_cascade(network)
        self._crew = Crew(workers or default_size(network.device))
        project_where_told(network)

    @torch.inference_mode()
    def observe(self, queries: Sequence[Query]) -> list[Arrays]:
        """Observations in the order of `queries`.

        Raises:
            ContextTooLong: if a sequence with its answer exceeds the window.
        """
        for query in queries:
            self._check_length(query)
        found: list[Arrays | None] = [None] * len(queries)
        order = sorted(range(len(queries)), key=lambda index: _alike(queries[index].read))
        for _, same in groupby(order, key=lambda index: _alike(queries[index].read)):
            indices = list(same)
            for index, arrays in self._observe_alike(indices, queries):
                found[index] = arrays
        return [arrays for arrays in found if arrays is not None]

    def _check_length(self, query: Query) -> None:
        length = len(query.tokens) + (query.read.max_tokens if isinstance(query.read, Answer) else 0)
        if length > self._window:
            raise ContextTooLong(
                f"a request of {length} tokens, answer included, exceeds the model's window of {self._window}; "
                "use shorter contexts or prompts"
            )
        if query.first_read() < 0:
            raise ValueError(f"a `{query.read.kind}` request needs a token before the first one read, got none")

    def _observe_alike(self, indices: list[int], queries: Sequence[Query]) -> Iterator[tuple[int, Arrays]]:
        asked = {index: queries[index] for index in indices}
        if isinstance(queries[indices[0]].read, Answer):
            yield from self._answers(asked)
            return
        yield from self._in_parts(asked, self._reader(queries[indices[0]].read))

    def _reader(self, read: Read) -> Callable[[Any, Batch], list[Arrays]]:
        if isinstance(read, NextToken):
            return self._next_tokens
        if isinstance(read, Score):
            return self._scores
        if isinstance(read, Gains):
            return self._gains
        return self._traces if isinstance(read, Trace) else self._hidden

    def _answers(self, asked: Mapping[int, Query]) -> Iterator[tuple[int, Arrays]]:
        """Prefill shares prefixes where the network can; then as many rows as fit go on together."""
        if not self._cascades:
            yield from self._in_parts(asked, lambda _, batch: self._generate(begin_together(self._network, batch)))
            return
        for chunk in self._rows_together(asked):
            parts = list(self._parts({index: asked[index] for index in chunk}, partial(prefill, self._network)))
            shares = _deal(parts, min(self._crew.size, max(1, len(chunk) // ROWS_A_WORKER)))
            found = [self._crew.submit(self._go_on, [part for _, part in share]) for share in shares]
            for share, answers in zip(shares, found, strict=True):
                yield from zip(chain.from_iterable(members for members, _ in share), answers.result(), strict=True)

    def _go_on(self, parts: Sequence[Future[Prefilled]]) -> list[Arrays]:
        return self._generate(bring_together([part.result() for part in parts]))

    def _generate(self, begun: Begun) -> list[Arrays]:
        return Generation(self._network, self._stop_ids, begun).run()

    def _in_parts(
        self, asked: Mapping[int, Query], answer: Callable[[Any, Batch], list[Arrays]]
    ) -> Iterator[tuple[int, Arrays]]:
        for members, answers in list(self._parts(asked, answer)):
            yield from zip(members, answers.result(), strict=True)

    def _rows_together(self, asked: Mapping[int, Query]) -> Iterator[list[int]]:
        """Neighbours in the prefix tree, as many as have room for their caches."""
        longest = max(asked.values(), key=lambda query: len(query.tokens))
        neighbours = sorted(asked, key=lambda index: asked[index].tokens)
        return _cut(
            neighbours, lambda chunk, _: self._room(len(chunk) + 1, longest, len(longest.tokens)) <= self._memory_budget
        )

    def _parts(
        self, asked: Mapping[int, Query], work: Callable[[Any, Batch], T]
    ) -> Iterator[tuple[list[int], Future[T]]]:
        """Batches given to the crew, each behind the cache of what its rows share: the queries' indices, the work."""
        queries = list(asked.values())
        indices = list(asked)
        limits = [query.first_read() if self._shares(query.read) else 0 for query in queries]
        groups = share_prefixes([query.tokens for query in queries], limits)
        size = self._batch_tokens(
            sum(len(queries[member].tokens) - it.shared for it in groups for member in it.members)
        )
        for group in groups:
            prefix = self._crew.submit(self._prefix, queries[group.members[0]].tokens[: group.shared])
            for members in self._batches(group, queries, size):
                batch = Batch.of([queries[member] for member in members], group.shared, self._network.device)
                yield [indices[member] for member in members], self._crew.submit(_when_ready, prefix, work, batch)

    def _shares(self, read: Read) -> bool:
        return not isinstance(read, Gains) and (self._cascades or (self._share and not isinstance(read, Answer)))

    def _prefix(self, tokens: Tokens) -> Any:
        """The key/value cache of a shared prefix, for one row; None where nothing is shared."""
        if not tokens:
            return None
        ids = torch.tensor([tokens], device=self._network.device)
        with projecting_nothing():
            return self._network(input_ids=ids, use_cache=True).past_key_values

    def _batch_tokens(self, tokens: int) -> int:
        """Tokens of one pass, where so many are to be computed."""
        return min(MAX_BATCH_TOKENS, max(MIN_BATCH_TOKENS, tokens // (BATCHES_A_WORKER * self._crew.size)))

    def _batches(self, group: Group, queries: Sequence[Query], size: int) -> Iterator[list[int]]:
        """Members of similar length together, as many as the budgets allow."""
        ordered = sorted(group.members, key=lambda member: len(queries[member].tokens))
        return _cut(
            ordered,
            lambda batch, member: self._joins(queries[member], queries[batch[-1]], len(batch) + 1, group.shared, size),
        )

    def _joins(self, query: Query, longest: Query, rows: int, shared: int, size: int) -> bool:
        padded = isinstance(query.read, Answer) and len(query.tokens) > len(longest.tokens)
        return self._fits(rows, query, shared, size) and (self._pads_answers or not padded)

    def _fits(self, rows: int, longest: Query, shared: int, size: int) -> bool:
        together = isinstance(longest.read, Answer) and not self._cascades
        tokens = size * (GENERATION_FACTOR if together else 1)
        room = self._room(rows, longest, shared) <= self._memory_budget // self._crew.size
        return room and rows * (len(longest.tokens) - shared) <= tokens

    def _room(self, rows: int, longest: Query, shared: int) -> int:
        """Bytes that so many rows take, at most."""
        length, config = len(longest.tokens), self._config
        total = length + (longest.read.max_tokens if isinstance(longest.read, Answer) else 0)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        cache = 2 * total * config.num_hidden_layers * 2 * heads * head_size
        width = 6 * (length - shared) * max(inner, config.hidden_size)
        width *= config.num_hidden_layers if isinstance(longest.read, Gains) else 1
        logits = _logits(longest.read) * config.vocab_size
        found: int = rows * (cache + width + logits) * 4
        return found

    def _next_tokens(self, prefix: Any, batch: Batch) -> list[Arrays]:
        logp = self._log_probabilities(prefix, batch, [[length - 1] for length in batch.lengths])
        return _compact(logp, batch.reads)

    def _scores(self, prefix: Any, batch: Batch) -> list[Arrays]:
        places = _before_the_last(batch)
        logp = self._log_probabilities(prefix, batch, places)
        scores = logp.gather(1, _following(batch.ids, places)[:, None])[:, 0].cpu().numpy()
        return [{"logp": part} for part in np.split(scores, _ends(places)[:-1])]

    def _traces(self, prefix: Any, batch: Batch) -> list[Arrays]:
        places = _before_the_last(batch)
        logp = self._log_probabilities(prefix, batch, places)
        tables = {"entropy": _entropy(logp).cpu().numpy()} | _padded(_largest(logp, TRACE_TOP), TRACE_TOP)
        ends = _ends(places)
        parts = [slice(first, end) for first, end in zip([0, *ends], ends, strict=False)]
        return [{name: table[part] for name, table in tables.items()} for part in parts]

    def _hidden(self, prefix: Any, batch: Batch) -> list[Arrays]:
        told = self._behind(prefix, len(batch.lengths))
        with projecting_nothing():
            output = self._network(input_ids=batch.ids, output_hidden_states=True, **told)
        last = torch.tensor(batch.lengths, device=batch.ids.device) - 1
        rows = torch.arange(len(last), device=last.device)
        depths = torch.stack([states[rows, last] for states in output.hidden_states], dim=1).float().cpu().numpy()
        wanted = [read.layers for read in batch.reads if isinstance(read, Hidden)]
        return [{"hidden": row[list(layers)]} for row, layers in zip(depths, wanted, strict=True)]

    def _gains(self, prefix: Any, batch: Batch) -> list[Arrays]:
        """Nothing is shared: a gradient needs every token that it passes through."""
        embed = self._network.get_input_embeddings()
        places = _before_the_last(batch)
        with torch.inference_mode(False), torch.enable_grad():  # what was made in inference mode cannot be recorded
            ids = batch.ids.clone()
            rows, columns = _rows_and_columns(places, ids.device)
            entering = embed(ids).detach().requires_grad_(True)
            with projecting_only(rows, columns):
                logp = self._network(inputs_embeds=entering, use_cache=False).logits[0].float().log_softmax(-1)
            (slopes,) = torch.autograd.grad(logp.gather(1, _following(ids, places)[:, None]).sum(), entering)
        wanted = [read for read in batch.reads if isinstance(read, Gains)]
        spans = [(row, slice(read.first, read.first + read.count)) for row, read in enumerate(wanted)]
        slope, now = (torch.cat([states[row, span] for row, span in spans]).float() for states in (slopes, entering))
        gains = self._along(slope) - (slope * now).sum(-1, keepdim=True)
        table = _padded(_largest(gains, GAINS_TOP), GAINS_TOP)
        ends = list(accumulate(read.count for read in wanted))
        parts = [slice(first, end) for first, end in zip([0, *ends], ends, strict=False)]
        return [{"ids": table["ids"][part], "gains": table["logp"][part]} for part in parts]

    def _along(self, slope: Tensor) -> Tensor:
        """Slopes [place, width] times what each token of the vocabulary enters as: [place, vocab], in pieces."""
        embed = self._network.get_input_embeddings()
        ids = torch.arange(embed.num_embeddings, device=slope.device)
        return torch.cat([slope @ embed(part).float().T for part in ids.split(EMBEDDED)], dim=1)

    def _behind(self, prefix: Any, rows: int) -> dict[str, Any]:
        """What the network is told of a shared prefix."""
        if prefix is None:
            return {"use_cache": False}
        if self._cascades:
            cache = behind(prefix)
            return {"past_key_values": cache, "prefix": cache, "use_cache": True}
        return {"past_key_values": widen(prefix, rows), "use_cache": True}

    def _log_probabilities(self, prefix: Any, batch: Batch, places: list[list[int]]) -> Tensor:
        """Log-probabilities float32 [place, vocab] after each of the places of each row, rows in order."""
        rows, columns = _rows_and_columns(places, batch.ids.device)
        with projecting_only(rows, columns):
            output = self._network(input_ids=batch.ids, **self._behind(prefix, len(batch.lengths)))
        logits: Tensor = output.logits[0]
        return logits.float().log_softmax(-1)


def _deal(parts: Sequence[_Part], count: int) -> list[list[_Part]]:
    """The parts in at most `count` shares of about as many rows."""
    shares: list[list[_Part]] = [[] for _ in range(count)]
    for part in sorted(parts, key=lambda part: -len(part[0])):
        min(shares, key=_rows).append(part)
    return [share for share in shares if share]


def _rows(share: Sequence[_Part]) -> int:
    return sum(len(members) for members, _ in share)


def _when_ready(prefix: Future[Any], work: Callable[[Any, Batch], T], batch: Batch) -> T:
    return work(prefix.result(), batch)


def _cut(members: Sequence[int], joins: Callable[[list[int], int], bool]) -> Iterator[list[int]]:
    """Runs of `members`, in order; a new one begins where the next member does not join."""
    run = [members[0]]
    for member in members[1:]:
        if not joins(run, member):
            yield run
            run = []
        run.append(member)
    yield run


def _alike(read: Read) -> tuple[str, int]:
    """Reads with the same key can share a batch."""
    return read.kind, read.max_tokens if isinstance(read, Answer) else 0


def _logits(read: Read) -> int:
    """How many logits of the vocabulary a row holds at once, intermediate results included."""
    if isinstance(read, Score | Gains):
        return 3 * read.n_tokens
    return 5 * read.n_tokens if isinstance(read, Trace) else 3


def _before_the_last(batch: Batch) -> list[list[int]]:
    """The places in each row from which its last tokens are predicted."""
    sizes = [read.n_tokens for read in batch.reads if isinstance(read, Score | Trace | Gains)]
    return [list(range(end - size - 1, end - 1)) for end, size in zip(batch.lengths, sizes, strict=True)]


def _rows_and_columns(places: list[list[int]], device: Any) -> tuple[Tensor, Tensor]:
    """The places of all rows as two index vectors."""
    rows = torch.tensor([row for row, at in enumerate(places) for _ in at], device=device)
    return rows, torch.tensor([place for at in places for place in at], device=device)


def _following(ids: Tensor, places: list[list[int]]) -> Tensor:
    """The tokens after the places, rows in order."""
    return torch.cat([row[[place + 1 for place in at]] for row, at in zip(ids, places, strict=True)])


def _ends(places: Sequence[Sequence[int]]) -> list[int]:
    """Where each row ends when the rows lie one behind the other."""
    return list(accumulate(map(len, places)))


def _entropy(logp: Tensor) -> Tensor:
    """Entropy of each row of log-probabilities [row, vocab], nats."""
    return -(logp.exp() * logp).sum(1)


def _largest(logp: Tensor, count: int) -> Any:
    """Values and indices of the `count` largest of each row, of all where there are fewer."""
    return logp.topk(min(count, logp.shape[1]), dim=1)


def _padded(kept: Any, count: int) -> dict[str, Any]:
    """Ids and log-probabilities [row, count], padded where the vocabulary is smaller."""
    padding = ((0, 0), (0, count - kept.values.shape[1]))
    return {
        "ids": np.pad(kept.indices.int().cpu().numpy(), padding, constant_values=-1),
        "logp": np.pad(kept.values.cpu().numpy(), padding, constant_values=-np.inf),
    }


def _compact(logp: Tensor, reads: Sequence[Read]) -> list[Arrays]:
    """Compact next-token distributions from log-probabilities [row, vocab]."""
    kept = _largest(logp, TOP)
    columns = {
        "rest": logp.scatter(1, kept.indices, -torch.inf).logsumexp(1, keepdim=True),
        "floor": logp.min(dim=1, keepdim=True).values,
        "entropy": _entropy(logp)[:, None],
    }
    tables = _padded(kept, TOP) | {name: column.cpu().numpy() for name, column in columns.items()}
    found = []
    for row, read in enumerate(reads):
        named = logp[row, list(read.named)].cpu().numpy() if isinstance(read, NextToken) else None
        found.append({name: table[row] for name, table in tables.items()} | {"named": named})
    return found
