"""nano in PyTorch: gpt-oss blocks (attention with sinks, clamped SwiGLU experts, YaRN RoPE).

Shapes: B sequences, T positions, D width, H heads, G key/value heads, W head width, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.nano.kernels import (
    Collect,
    Dispatch,
    ExpertRows,
    SinkAttention,
    Tile,
    applied,
    slots_for,
)
from workers.nano.mxfp4 import FakeMxfp4
from workers.nano.shape import NanoShape

N_CLAUSE_DIRECTIONS = 41


def yarn_frequencies(shape: NanoShape) -> tuple[Tensor, float]:
    """Rotation per position of each pair (W/2 radians) and the magnitude, as llama.cpp computes."""
    width, base = shape.head_width, shape.rope_theta
    plain = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)

    def pair_turning(times: float) -> float:
        """The pair index that turns `times` times within the original context."""
        turns = shape.yarn_original_context / (times * 2 * math.pi)
        return width * math.log(turns) / (2 * math.log(base))

    low = max(0, math.floor(pair_turning(shape.yarn_beta_fast)))
    high = min(width - 1, math.ceil(pair_turning(shape.yarn_beta_slow)))
    pair = torch.arange(width // 2, dtype=torch.float64)
    keep = 1 - ((pair - low) / max(0.001, high - low)).clamp(0, 1)
    mixed = plain / shape.yarn_factor * (1 - keep) + plain * keep
    return mixed.float(), 1 + 0.1 * math.log(shape.yarn_factor)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in the half-split layout; x: B,H,T,W; cos and sin: B,1,T,W/2."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _matrix(*sizes: int, std: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*sizes) * std)


def _zeros(*sizes: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*sizes))


class Attention(nn.Module):
    """Grouped-query attention with biases and sinks."""

    def __init__(self, shape: NanoShape) -> None:
        super().__init__()
        self.shape = shape
        q_width = shape.n_heads * shape.head_width
        kv_width = shape.n_kv_heads * shape.head_width
        std = 0.5 * shape.width**-0.5
        self.q, self.q_bias = _matrix(q_width, shape.width, std=std), _zeros(q_width)
        self.k, self.k_bias = _matrix(kv_width, shape.width, std=std), _zeros(kv_width)
        self.v, self.v_bias = _matrix(kv_width, shape.width, std=std), _zeros(kv_width)
        self.out = _matrix(shape.width, q_width, std=0.3 * q_width**-0.5)
        self.out_bias = _zeros(shape.width)
        self.sink = _zeros(shape.n_heads)

    def _heads(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """B,T,D -> B,heads,T,W in float32."""
        b, t, _ = x.shape
        y = F.linear(x, weight, bias).view(b, t, -1, self.shape.head_width)
        return y.transpose(1, 2).float()

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, tiles: Sequence[Tile]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x: B,T,D normed. Returns the output B,T,D and the rotated q B,H,T,W and k B,G,T,W."""
        q = rotate(self._heads(x, self.q, self.q_bias), cos, sin)
        k = rotate(self._heads(x, self.k, self.k_bias), cos, sin)
        v = self._heads(x, self.v, self.v_bias)
        group = self.shape.n_heads // self.shape.n_kv_heads
        wide_k, wide_v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scale = self.shape.head_width**-0.5
        y = applied(SinkAttention, q, wide_k, wide_v, self.sink, tiles, scale)
        y = y.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1)
        return F.linear(y, self.out, self.out_bias), q, k


class Experts(nn.Module):
    """The mixture: each token goes through its best `n_experts_used` experts."""

    def __init__(self, shape: NanoShape) -> None:
        super().__init__()
        self.shape = shape
        e, d, f = shape.n_experts, shape.width, shape.expert_width
        self.router, self.router_bias = _matrix(e, d, std=0.02), _zeros(e)
        self.gate, self.gate_bias = _matrix(e, f, d, std=0.7 * d**-0.5), _zeros(e, f)
        self.up, self.up_bias = _matrix(e, f, d, std=0.7 * d**-0.5), _zeros(e, f)
        self.down, self.down_bias = _matrix(e, d, f, std=0.3 * f**-0.5), _zeros(e, d)
        self.fake_quant = False

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        if not self.fake_quant:
            return self.gate, self.up, self.down
        return (
            applied(FakeMxfp4, self.gate),
            applied(FakeMxfp4, self.up),
            applied(FakeMxfp4, self.down),
        )

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: N,D. Returns router logits N,E, chosen experts N,K and their weights N,K."""
        with torch.autocast("cpu", enabled=False):
            logits = F.linear(x.float(), self.router, self.router_bias)
        top, chosen = logits.topk(self.shape.n_experts_used, -1)
        return logits, chosen, torch.softmax(top, -1)

    def _run(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """x: rows sorted by expert, `counts[e]` rows each."""
        gate, up, down = self._weights()
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
        weights = (gate, self.gate_bias, up, self.up_bias, down, self.down_bias)
        return applied(ExpertRows, x, counts, *weights)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: B,T,D normed. Returns B,T,D and the load-balancing loss (1 when even)."""
        b, t, d = x.shape
        flat = x.reshape(-1, d)
        used = self.shape.n_experts_used
        logits, chosen, weights = self._route(flat)
        slots = slots_for(chosen, self.shape.n_experts)
        rows = self._run(applied(Dispatch, flat, slots.token, slots.slot, used), slots.counts)
        y = applied(Collect, rows, slots.slot).view(-1, used, d)
        balance = self.shape.n_experts * (torch.softmax(logits, -1).mean(0) * slots.share).sum()
        return (y * weights.unsqueeze(-1).to(y.dtype)).sum(1).view(b, t, d), balance


class Block(nn.Module):
    """One transformer layer; keeps nothing between calls but its weights."""

    def __init__(self, shape: NanoShape) -> None:
        super().__init__()
        self.epsilon = shape.norm_epsilon
        self.attention_norm = nn.Parameter(torch.ones(shape.width))
        self.experts_norm = nn.Parameter(torch.ones(shape.width))
        self.attention = Attention(shape)
        self.experts = Experts(shape)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, tiles: Sequence[Tile]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the new residual stream, q, k and the balance loss."""
        normed = F.rms_norm(x, x.shape[-1:], self.attention_norm, self.epsilon)
        attended, q, k = self.attention(normed, cos, sin, tiles)
        x = x + attended
        mixed, balance = self.experts(F.rms_norm(x, x.shape[-1:], self.experts_norm, self.epsilon))
        return x + mixed, q, k, balance


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """One forward pass.

    logits: (rows, vocab). final: what the head reads, (rows, D). attention: each layer's rotated
    q (B,H,T,W) and k (B,G,T,W). before_last: the residual stream that the last layer reads, B,T,D.
    balance: mean routing loss.
    """

    logits: Tensor
    final: Tensor
    attention: list[tuple[Tensor, Tensor]]
    before_last: Tensor
    balance: Tensor


class Nano(nn.Module):
    """The whole model; `forward` gives logits only where asked, to spare the vocabulary matmul."""

    def __init__(self, shape: NanoShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = _matrix(shape.n_vocab, shape.width, std=1.0)
        self.head = _matrix(shape.n_vocab, shape.width, std=0.02)
        self.final_norm = nn.Parameter(torch.ones(shape.width))
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.n_layers)])
        # Used in training only and not exported: one direction per clause category (supervision.py)
        self.clause_directions = _matrix(N_CLAUSE_DIRECTIONS, shape.width, std=0.02)
        self._frequencies, self._magnitude = yarn_frequencies(shape)

    def set_fake_quant(self, on: bool) -> None:
        """Train (or evaluate) with the experts rounded to MXFP4."""
        for module in self.modules():
            if isinstance(module, Experts):
                module.fake_quant = on

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        tiles: tuple[Sequence[Tile], Sequence[Tile]],
        rows: Tensor | None,
    ) -> Outputs:
        """ids, positions: B,T; tiles: (sliding, full); rows: flat indices into B*T, or all."""
        angle = positions.float().unsqueeze(-1) * self._frequencies
        cos = (torch.cos(angle) * self._magnitude).unsqueeze(1)
        sin = (torch.sin(angle) * self._magnitude).unsqueeze(1)
        x = F.embedding(ids, self.embedding)
        attention, balances = [], []
        before_last = x
        for index, block in enumerate(self.blocks):
            before_last = x
            seen = tiles[0] if self.shape.is_sliding(index) else tiles[1]
            x, q, k, balance = block(x, cos, sin, seen)
            attention.append((q, k))
            balances.append(balance)
        flat = x.reshape(-1, x.shape[-1])
        flat = flat if rows is None else flat[rows]
        final = F.rms_norm(flat, flat.shape[-1:], self.final_norm, self.shape.norm_epsilon)
        return Outputs(
            logits=F.linear(final, self.head),
            final=final,
            attention=attention,
            before_last=before_last,
            balance=torch.stack(balances).mean(),
        )
