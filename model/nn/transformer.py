"""The encoder-only Transformer, read out at the request slot.

B batch, L context slots, S = 1 + L slots with the request in slot 0, R slots that are computed, D embedding, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import NetworkConfig


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero a share p of x at random and scale up the rest; on a CPU several times faster than torch's.

    There torch draws each element's fate by itself, which costs as much as the layer's matrix products. Here 64 random
    bits decide on four elements; p is met to 1 / 65536.
    """
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped = round(p * 2**16)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # all values of 64 bits
    keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * keep.to(x.dtype).mul_(1 / (1 - dropped / 2**16))


def attention(q: Tensor, k: Tensor, v: Tensor, attend: Tensor, p: float) -> Tensor:
    """Scaled dot-product attention with dropout of the weights.

    Args:
        q, k, v: Queries (B, H, R, D / H), keys and values (B, H, S, D / H).
        attend: True where a slot takes part, (B, 1, 1, S).
        p: Dropout probability.

    Returns:
        (B, H, R, D / H).
    """
    if q.device.type != "cpu" or not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attend, dropout_p=p)
    # On the CPU torch's own is slow with dropout, and its way back is ten times slower than this.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, R, S)
    weights = scores.masked_fill(~attend, -torch.inf).softmax(-1)
    return (dropout(weights, p) if p else weights).to(v.dtype) @ v


class EncoderLayer(nn.Module):
    """PyTorch's encoder layer, which can be asked for its first slots only.

    Keys and values are needed from every slot; queries, the output projection and the feed-forward network only
    where a result is read. Published is the post-norm layer; ``norm="pre"`` normalises what goes into its two parts
    instead, which trains faster and at higher rates (Xiong et al. 2020, arXiv:2002.04745).

    Args:
        config: Sizes of the Transformer.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        dim = config.embedding_dim
        self.heads = config.heads
        self.dropout = config.dropout
        self.pre_norm = config.norm == "pre"
        self.activation = getattr(F, config.activation)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.linear1 = nn.Linear(dim, config.feedforward_dim)
        self.linear2 = nn.Linear(config.feedforward_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        # The initial values of torch.nn.MultiheadAttention.
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, attend: Tensor, n_read: int | None = None) -> Tensor:
        """One layer.

        Args:
            x: Hidden states, (B, S, D).
            attend: True where a slot takes part, (B, 1, 1, S).
            n_read: Compute the first n_read slots only; all of them if None.

        Returns:
            Hidden states, (B, R, D), R = n_read or S.
        """
        if self.pre_norm:
            normed = self.norm1(x)
            x = x[:, :n_read] + self._drop(self._attention(normed, normed[:, :n_read], attend))  # (B, R, D)
            return x + self._drop(self._feed_forward(self.norm2(x)))
        read = x[:, :n_read]  # (B, R, D)
        x = self.norm1(read + self._drop(self._attention(x, read, attend)))
        return self.norm2(x + self._drop(self._feed_forward(x)))

    def _attention(self, x: Tensor, read: Tensor, attend: Tensor) -> Tensor:
        dim = x.shape[-1]
        if read.shape[1] == x.shape[1]:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            q = F.linear(read, self.qkv.weight[:dim], self.qkv.bias[:dim])  # (B, R, D)
            k, v = F.linear(x, self.qkv.weight[dim:], self.qkv.bias[dim:]).chunk(2, dim=-1)  # (B, S, D)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))  # (B, H, R or S, D / H)
        y = attention(q, k, v, attend, self.dropout if self.training else 0.0)  # (B, H, R, D / H)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, R, D)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self._drop(self.activation(self.linear1(x))))

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout) if self.training and self.dropout else x


class Encoder(nn.Module):
    """A stack of encoder layers over the request and its context; only the request's slot leaves it.

    There is no positional encoding: the context is a set, of any size.

    Args:
        config: Sizes of the Transformer.

    Example:
        >>> encoder = Encoder(NetworkConfig(embedding_dim=8, heads=2))
        >>> name, context = torch.zeros(5, 8), torch.zeros(5, 3, 8)
        >>> encoder(name, context, torch.zeros(5, 3, dtype=torch.bool)).shape
        torch.Size([5, 8])
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.embedding_dim) if config.norm == "pre" else nn.Identity()

    def forward(self, name: Tensor, context: Tensor, is_pad: Tensor) -> Tensor:
        """Summarise a context for a request.

        Args:
            name: The requested column's name, (B, D).
            context: Embedded values, (B, L, D).
            is_pad: True where a context slot is empty, (B, L).

        Returns:
            The condition, (B, D).
        """
        x = torch.cat([name.unsqueeze(1), context], dim=1)  # (B, S, D)
        attend = F.pad(~is_pad, (1, 0), value=True)[:, None, None, :]  # (B, 1, 1, S)
        for layer in self.layers[:-1]:
            x = layer(x, attend)
        return self.norm(self.layers[-1](x, attend, n_read=1).squeeze(1))  # (B, D)
