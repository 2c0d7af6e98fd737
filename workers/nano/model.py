"""nano in PyTorch: gpt-oss blocks (attention with sinks, clamped SwiGLU experts, YaRN RoPE).

Shapes: B sequences, T positions, D width, H heads, G key/value heads, W head width, E experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.nano.mxfp4 import FakeMxfp4
from workers.nano.shape import NanoShape

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
SWIGLU_LIMIT = 7.0
SWIGLU_ALPHA = 1.702
N_CLAUSE_DIRECTIONS = 41


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """`function.apply`, which PyTorch leaves untyped."""
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


class SinkAttention(torch.autograd.Function):
    """Flash attention plus one learned logit per head that takes probability and gives nothing."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink: Tensor, mask: Tensor, scale: float
    ) -> Tensor:
        """q, k, v: B,H,T,W; sink: H; mask: B,1,T,T (0 or -inf). Returns B,H,T,W."""
        plain, log_sum = _flash(q, k, v, 0.0, False, attn_mask=mask, scale=scale)
        with_sink = torch.logaddexp(log_sum, sink.view(1, -1, 1).to(log_sum.dtype))
        out: Tensor = plain * torch.exp(log_sum - with_sink).unsqueeze(-1).to(plain.dtype)
        ctx.save_for_backward(q, k, v, out, with_sink, sink, mask)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Exact gradients: the flash backward with the sink's log-sum, and the sink's own."""
        q, k, v, out, log_sum, sink, mask = ctx.saved_tensors
        grad = gradients[0].contiguous()
        dq, dk, dv = _flash_backward(
            grad, q, k, v, out, log_sum, 0.0, False, attn_mask=mask, scale=ctx.scale
        )
        share = torch.exp(sink.view(1, -1, 1) - log_sum)
        dsink = -(share * (grad.float() * out.float()).sum(-1)).sum((0, 2))
        return dq, dk, dv, dsink, None, None


class _Dispatch(torch.autograd.Function):
    """Rows of tokens repeated into expert order; the backward is a gather, not a scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, inverse: Tensor, used: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.used = used
        return x[token]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        width = gradients[0].shape[-1]
        return gradients[0][inverse].view(-1, ctx.used, width).sum(1), None, None, None


class _Collect(torch.autograd.Function):
    """The inverse permutation of `_Dispatch`."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return y[inverse]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0][ctx.saved_tensors[0]], None, None


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


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gpt-oss's clamped SwiGLU with its +1 on the linear half."""
    gate = gate.clamp(max=SWIGLU_LIMIT)
    up = up.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT)
    return gate * torch.sigmoid(SWIGLU_ALPHA * gate) * (up + 1)


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
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x: B,T,D normed. Returns the output B,T,D and the rotated q B,H,T,W and k B,G,T,W."""
        q = rotate(self._heads(x, self.q, self.q_bias), cos, sin)
        k = rotate(self._heads(x, self.k, self.k_bias), cos, sin)
        v = self._heads(x, self.v, self.v_bias)
        group = self.shape.n_heads // self.shape.n_kv_heads
        wide_k, wide_v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scale = self.shape.head_width**-0.5
        y = _apply(SinkAttention, q, wide_k, wide_v, self.sink, mask, scale)
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
            _apply(FakeMxfp4, self.gate),
            _apply(FakeMxfp4, self.up),
            _apply(FakeMxfp4, self.down),
        )

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: N,D. Returns router logits N,E, chosen experts N,K and their weights N,K."""
        with torch.autocast("cpu", enabled=False):
            logits = F.linear(x.float(), self.router, self.router_bias)
        top, chosen = logits.topk(self.shape.n_experts_used, -1)
        return logits, chosen, torch.softmax(top, -1)

    def _run(self, x: Tensor, counts: list[int]) -> Tensor:
        """x: rows sorted by expert, `counts[e]` rows each."""
        # unbind and split, not indexing: one gradient instead of a zero-filled one per expert
        gate, up, down = (weight.unbind(0) for weight in self._weights())
        biases = zip(
            self.gate_bias.unbind(0), self.up_bias.unbind(0), self.down_bias.unbind(0), strict=True
        )
        outs = []
        for e, (rows, (gate_bias, up_bias, down_bias)) in enumerate(
            zip(x.split(counts), biases, strict=True)
        ):
            hidden = swiglu(F.linear(rows, gate[e], gate_bias), F.linear(rows, up[e], up_bias))
            outs.append(F.linear(hidden, down[e], down_bias))
        return torch.cat(outs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: B,T,D normed. Returns B,T,D and the load-balancing loss (1 when even)."""
        b, t, d = x.shape
        flat = x.reshape(-1, d)
        used = self.shape.n_experts_used
        logits, chosen, weights = self._route(flat)
        expert = chosen.reshape(-1)
        order = torch.argsort(expert, stable=True)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(len(order))
        counts = torch.bincount(expert, minlength=self.shape.n_experts)
        rows = self._run(_apply(_Dispatch, flat, order // used, inverse, used), counts.tolist())
        y = _apply(_Collect, rows, order, inverse).view(-1, used, d)
        share = counts.float() / len(expert)
        balance = self.shape.n_experts * (torch.softmax(logits, -1).mean(0) * share).sum()
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
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the new residual stream, q, k and the balance loss."""
        normed = F.rms_norm(x, x.shape[-1:], self.attention_norm, self.epsilon)
        attended, q, k = self.attention(normed, cos, sin, mask)
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
        self, ids: Tensor, positions: Tensor, masks: tuple[Tensor, Tensor], rows: Tensor | None
    ) -> Outputs:
        """ids, positions: B,T; masks: (sliding, full) B,1,T,T; rows: flat indices into B*T."""
        angle = positions.float().unsqueeze(-1) * self._frequencies
        cos = (torch.cos(angle) * self._magnitude).unsqueeze(1)
        sin = (torch.sin(angle) * self._magnitude).unsqueeze(1)
        x = F.embedding(ids, self.embedding)
        attention, balances = [], []
        before_last = x
        for index, block in enumerate(self.blocks):
            before_last = x
            mask = masks[0] if self.shape.is_sliding(index) else masks[1]
            x, q, k, balance = block(x, cos, sin, mask)
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
