"""Attention with fewer heads than its width would have, after some were removed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..codes.coded_layers import coded_class, packed_weights

__all__ = ["PrunedAttention", "prune_attention_"]


def prune_attention_(layer: nn.MultiheadAttention, n_rows: int, n_columns: int) -> None:
    """Make attention work with the projections it has now, whatever their sizes.

    Parameters
    ----------
    layer : torch.nn.MultiheadAttention
        Becomes an instance of `PrunedAttention`.
    n_rows, n_columns : int
        Of the projection of queries.
    """
    attrs = tuple(packed_weights(layer))
    layer.__class__ = coded_class(PrunedAttention, attrs) if attrs else PrunedAttention
    # Torch's fused kernels, which this switches off, know no other width than heads * head_dim.
    layer._qkv_same_embed_dim = False
    layer.embed_dim = n_columns
    layer.num_heads = n_rows // layer.head_dim


class PrunedAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention` of which some heads are removed.

    Torch's own forward demands that the number of heads times their width is the width of the
    embedding. This one computes the same without that demand.

    Examples
    --------
    >>> layer = nn.MultiheadAttention(8, 4, batch_first=True)
    >>> expected = layer(*[torch.ones(1, 2, 8)] * 3)[0]
    >>> prune_attention_(layer, 8, 8)
    >>> torch.allclose(layer(*[torch.ones(1, 2, 8)] * 3)[0], expected, atol=1e-5)
    True
    """

    _uncut_class = nn.MultiheadAttention

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute attention, see `torch.nn.MultiheadAttention`."""
        batched = query.dim() == 3
        inputs = [query, key, value]
        if not batched:
            inputs = [x.unsqueeze(0) for x in inputs]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        q, k, v = self._projected(inputs)
        mask = _merged(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.mT
            weights = functional.dropout(
                (scores if mask is None else scores + mask).softmax(-1), dropout
            )
            attended = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            attended = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _projected(self, inputs: list[Tensor]) -> list[Tensor]:
        """Queries, keys and values of shape (batch, heads, length, width)."""
        packed: Tensor | None = self.in_proj_weight
        weights: list[Tensor] = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        if packed is not None:
            weights = list(packed.chunk(3))
        bias: Tensor | None = self.in_proj_bias
        biases = [None] * 3 if bias is None else list(bias.chunk(3))
        if self.bias_k is not None or self.add_zero_attn:
            raise ValueError("Heads cannot be removed from attention with bias_k or add_zero_attn.")
        return [
            functional.linear(x, weight, bias).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        ]


def _merged(attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """Both masks as one that is added to the scores."""
    if attn_mask is not None and attn_mask.dim() != 2:
        raise ValueError("Heads cannot be removed from attention with a mask for each head.")
    masks = [None if m is None else _additive(m, q) for m in (attn_mask, padding)]
    attn, pad = masks
    pad = None if pad is None else pad[:, None, None, :]
    if attn is None or pad is None:
        return pad if attn is None else attn
    return attn + pad


def _additive(mask: Tensor, q: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(mask, -torch.inf)
