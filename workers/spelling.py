"""Tokens that the subject added, spelled out in the base's own tokens.

Both models get the same token ids, as far as both have them. What the base has no id for it reads as its tokenizer
would have read the same text; a score of such a token is the sum over its pieces, a trace is read before its first one,
and what other tokens would gain in its place is that of its first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from detectors.engine.observations import Arrays, Gains, Read, Score, Tokens, Trace


def added_tokens(sequences: Sequence[Tokens], n_shared: int) -> list[int]:
    """The ids in `sequences` that lie beyond the `n_shared` that both models have, sorted."""
    return sorted({token for tokens in sequences for token in tokens if token >= n_shared})


@dataclass(frozen=True)
class Spelling:
    """How the base reads each added token.

    Attributes:
        pieces: ids of the base by id of the subject.
    """

    pieces: Mapping[int, Tokens]

    def tokens(self, given: Tokens) -> Tokens:
        """The sequence in ids of the base."""
        return tuple(chain.from_iterable(self.pieces.get(token, (token,)) for token in given))

    def read(self, given: Tokens, read: Read) -> Read:
        """The read that asks the same of the spelled sequence: scores and traces reach over all pieces."""
        if isinstance(read, Gains):
            before, span = given[: read.first], given[read.first : read.first + read.count]
            said = given[len(given) - read.n_tokens :]
            return Gains(*(len(self.tokens(part)) for part in (said, before, span)))
        if not isinstance(read, Score | Trace):
            return read
        return type(read)(len(self.tokens(given[len(given) - read.n_tokens :])))

    def fold(self, given: Tokens, read: Read, arrays: Arrays) -> Arrays:
        """The arrays as `read` asks for them, one row a token of `given`: a score is the sum over its pieces."""
        if isinstance(read, Gains):
            pieces = [len(self.tokens((token,))) for token in given[read.first : read.first + read.count]]
            return {name: array[np.cumsum([0, *pieces[:-1]])] for name, array in arrays.items()}
        if not isinstance(read, Score | Trace):
            return arrays
        scored = given[len(given) - read.n_tokens :]
        ends = np.cumsum([len(self.pieces.get(token, (token,))) for token in scored])
        starts = np.concatenate([[0], ends[:-1]])
        if isinstance(read, Trace):
            return {name: array[starts] for name, array in arrays.items()}
        totals = np.concatenate([[0.0], np.cumsum(arrays["logp"], dtype=float)])
        return {"logp": (totals[ends] - totals[starts]).astype(np.float32)}
