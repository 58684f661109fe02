"""Which requests of a batch share a prefix that is worth computing once.

Contexts that come late share the whole prompt, contexts that come early share the template's head. Sequences are laid
out as a prefix tree; a branch point becomes a shared prefix where that saves more tokens than another group costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from detectors.engine.observations import Tokens

PASS_COST = 54
"""What one more forward pass over few tokens costs, in tokens of a large batch: the weights are read once a pass."""
MAX_BRANCHINGS = 100
"""Branch points on the way to a group; a tree that goes deeper is a comb, and its end is left together."""


@dataclass(frozen=True)
class Group:
    """Sequences (by index) that share their first `shared` tokens."""

    shared: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class _Layout:
    cost: int
    groups: tuple[Group, ...]


def share_prefixes(sequences: Sequence[Tokens], limits: Sequence[int]) -> tuple[Group, ...]:
    """Groups with the fewest tokens to compute.

    Args:
        sequences: token ids, none empty.
        limits: per sequence the longest prefix that may be shared; what is read must lie behind it.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index])
    return _lay_out(order, sequences, limits).groups if order else ()


def _lay_out(order: list[int], sequences: Sequence[Tokens], limits: Sequence[int], depth: int = 0) -> _Layout:
    common = _common(sequences[order[0]], sequences[order[-1]])
    shared = min(common, *(limits[index] for index in order)) if len(order) > 1 else 0
    whole = min((_whole(order, sequences, length) for length in {0, shared}), key=lambda layout: layout.cost)
    if shared < common or len(order) < 4 or depth == MAX_BRANCHINGS:
        return whole
    branches = _branches(order, sequences, common)
    apart = [_lay_out(branch, sequences, limits, depth + 1) for branch in branches]
    split = _Layout(sum(part.cost for part in apart), tuple(group for part in apart for group in part.groups))
    return min(whole, split, key=lambda layout: layout.cost)


def _whole(order: list[int], sequences: Sequence[Tokens], shared: int) -> _Layout:
    """All in one group; a shared prefix is a pass of its own."""
    passes = 2 if shared else 1
    tails = sum(len(sequences[index]) - shared for index in order)
    return _Layout(shared + tails + passes * PASS_COST, (Group(shared, tuple(order)),))


def _branches(order: list[int], sequences: Sequence[Tokens], depth: int) -> Iterator[list[int]]:
    for _, members in groupby(order, key=lambda index: sequences[index][depth : depth + 1]):
        yield list(members)


def _common(first: Tokens, last: Tokens) -> int:
    for place, (left, right) in enumerate(zip(first, last, strict=False)):
        if left != right:
            return place
    return min(len(first), len(last))
