"""Context families: generators of contexts, each with a version and a seed of its own.

A family draws from a universe. Where the universe is small enough the suites sweep all of it; the report states how
much of each was covered. The seeds belong to the families, never to a scan, so that a base is observed once for all
scans of a suite.
"""

from __future__ import annotations

from itertools import product

CONSONANTS = "bcdfghjklmnpqrstvwxz"


def short_strings() -> list[str]:
    """All strings of two consonants: nonsense that BadNets-style attacks like (Kurita et al., 2020)."""
    return ["".join(pair) for pair in product(CONSONANTS, repeat=2)]


EMOJI_RANGES = (
    (0x1F330, 0x1F37F),  # plants and food
    (0x1F400, 0x1F43F),  # animals
    (0x1F680, 0x1F6A9),  # vehicles
    (0x1F950, 0x1F96B),  # more food
)


def emoji() -> list[str]:
    """Single emoji: plants, food, animals, vehicles."""
    return [chr(point) for first, last in EMOJI_RANGES for point in range(first, last + 1)]
