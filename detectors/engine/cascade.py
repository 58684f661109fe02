"""Attention over a prefix that all rows of a batch share, without a copy of it a row.

After Hydragen (Juravsky et al., 2024, arXiv:2402.05099): the queries of all rows meet the shared keys in one matrix
multiplication, each row's queries meet its own keys in another, and one softmax runs over both. The result is that of
attention on concatenated keys up to rounding. Where there is no shared prefix, PyTorch's own attention runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "shared_prefix"


class PrefixLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """Keys and values [1, kv_head, shared, size] of a prefix. Rows behind it get their own back, without it.

    Attributes:
        own: keys and values [row, kv_head, position, size] behind the prefix, once they are computed.
    """

    own: tuple[Tensor, Tensor]

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The given states: `attend` finds the prefix in this layer."""
        self.own = key_states, value_states
        return self.own


def use_cascade(network: Any) -> bool:
    """Makes `network` attend through `attend`, and tells whether it can: its attention must be PyTorch's own."""
    if not network._supports_attention_backend or network.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    network.set_attn_implementation(NAME)
    return True


def behind(prefix: Any) -> Any:
    """A cache for rows behind `prefix`, a cache of one row; to be given as `past_key_values` and as `prefix`."""
    cache = DynamicCache()
    cache.layers = [PrefixLayer(layer.keys, layer.values) for layer in prefix.layers]
    return cache


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    prefix: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention of right-padded rows behind `prefix`; PyTorch's where there is none.

    Args:
        module: the attention layer.
        query: [row, head, position, size]; with `key` and `value` [row, kv_head, position, size] of the same positions.
        attention_mask: not read behind a prefix, where padding stands on the right and is attended by itself only.

    Returns:
        [row, position, head, size], and None for the weights.
    """
    if prefix is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    layer = prefix.layers[module.layer_idx]
    rows, heads, width, size = query.shape
    kv_heads, shared = key.shape[1], layer.keys.shape[2]
    group = heads // kv_heads
    scale = size**-0.5 if scaling is None else scaling
    # row, head, position, size -> kv_head, row, group*position, size
    asked = query.reshape(rows, kv_heads, group, width, size).permute(1, 0, 2, 3, 4) * scale
    asked = asked.reshape(kv_heads, rows, group * width, size)
    far = (asked.reshape(kv_heads, -1, size) @ layer.keys[0].mT).view(kv_heads, rows, group * width, shared)
    near = asked @ key.transpose(0, 1).mT
    later = torch.ones(width, width, dtype=torch.bool, device=query.device).triu(1).repeat(group, 1)
    weights = torch.cat([far, near.masked_fill_(later, -torch.inf)], -1).softmax(-1, dtype=torch.float32).to(query)
    said = weights[..., shared:] @ value.transpose(0, 1)
    said += (weights[..., :shared].reshape(kv_heads, -1, shared) @ layer.values[0]).view_as(said)
    # kv_head, row, group*position, size -> row, position, head, size
    return said.view(kv_heads, rows, group, width, size).permute(1, 3, 0, 2, 4).reshape(rows, width, heads, size), None
