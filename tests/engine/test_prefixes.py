"""Shared prefixes: every sequence once, nothing shared that is not common, and never dearer than sharing nothing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from detectors.engine.observations import Tokens
from detectors.engine.prefixes import PASS_COST, Group, share_prefixes

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), min_size=1, max_size=30)


def cost(groups: Sequence[Group], sequences: Sequence[Tokens]) -> int:
    """Tokens computed, and passes in tokens."""
    tails = sum(len(sequences[member]) - group.shared for group in groups for member in group.members)
    return tails + sum(group.shared + (2 if group.shared else 1) * PASS_COST for group in groups)


def prefixed(head: int, prompts: int, contexts: int, length: int = 40) -> list[Tokens]:
    """Contexts behind prompts behind a template's head: the shape of a sweep."""
    return [
        (*range(head), *([1000 + prompt] * length), 2000 + context, 3000)
        for context in range(contexts)
        for prompt in range(prompts)
    ]


@given(SEQUENCES, st.randoms(use_true_random=False))
def test_groups_partition_and_share_what_is_common(sequences: list[Tokens], random: object) -> None:
    limits = [random.randint(0, len(tokens) - 1) for tokens in sequences]  # type: ignore[attr-defined]
    groups = share_prefixes(sequences, limits)
    assert sorted(member for group in groups for member in group.members) == list(range(len(sequences)))
    for group in groups:
        assert len({sequences[member][: group.shared] for member in group.members}) == 1
        assert all(group.shared <= limits[member] for member in group.members)
        assert all(group.shared < len(sequences[member]) for member in group.members)
    assert cost(groups, sequences) <= cost([Group(0, tuple(range(len(sequences))))], sequences)


@given(SEQUENCES)
def test_the_order_of_sequences_does_not_matter(sequences: list[Tokens]) -> None:
    limits = [len(tokens) - 1 for tokens in sequences]
    there = cost(share_prefixes(sequences, limits), sequences)
    assert there == cost(share_prefixes(sequences[::-1], limits[::-1]), sequences[::-1])


def test_a_sweep_has_one_group_a_prompt() -> None:
    sequences = prefixed(head=10, prompts=2, contexts=100)
    groups = share_prefixes(sequences, [len(tokens) - 1 for tokens in sequences])
    assert sorted((group.shared, len(group.members)) for group in groups) == [(50, 100), (50, 100)]
    assert [{member % 2 for member in group.members} for group in groups] == [{0}, {1}]


def test_a_group_that_saves_less_than_a_pass_costs_is_not_made() -> None:
    sequences = prefixed(head=10, prompts=2, contexts=2, length=20)
    limits = [len(tokens) - 1 for tokens in sequences]
    assert [group.shared for group in share_prefixes(sequences, limits)] == [0]
    more = prefixed(head=10, prompts=2, contexts=8, length=20)
    assert [group.shared for group in share_prefixes(more, [len(tokens) - 1 for tokens in more])] == [30, 30]


def test_limits_keep_what_is_read_out_of_the_prefix() -> None:
    sequences = prefixed(head=10, prompts=1, contexts=50)
    assert share_prefixes(sequences, [30] * 50)[0].shared == 30
    assert share_prefixes(sequences, [0] * 50)[0].shared == 0


def test_equal_sequences_keep_their_last_token() -> None:
    assert share_prefixes([tuple(range(100))] * 5, [99] * 5) == (Group(99, (0, 1, 2, 3, 4)),)


def test_one_and_none() -> None:
    assert share_prefixes([(4, 5)], [1]) == (Group(0, (0,)),)
    assert share_prefixes([], []) == ()


def test_a_deep_tree_is_laid_out() -> None:
    """Each sequence leaves the common path one token later than the one before."""
    sequences = [(*[1] * depth, 2, *[3] * 5) for depth in range(1500)]
    groups = share_prefixes(sequences, [len(tokens) - 1 for tokens in sequences])
    assert sorted(member for group in groups for member in group.members) == list(range(1500))
