"""What training computes by hand: attention with sinks over tiles, and experts' matrices.

Both are `torch.autograd.Function`s with exact gradients. They exist for speed on a few CPU cores;
tests compare them with the plain formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
SWIGLU_LIMIT = 7.0
SWIGLU_ALPHA = 1.702
SLOT_MULTIPLE = 64


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """`function.apply`, which PyTorch leaves untyped."""
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """Queries [first, end) of one sequence that see keys [low, high), wholly or through a mask.

    mask: 1, 1, end - first, high - low, of 0 and -inf; None where every query sees every key.
    blind: the queries that see none of these keys, as 1, 1, end - first; None where there is none.
    """

    sequence: int
    first: int
    end: int
    low: int
    high: int
    mask: Tensor | None = None
    blind: Tensor | None = None

    def queries(self, x: Tensor) -> Tensor:
        """The tile's rows of a B,H,T,... tensor, as 1,H,rows,..."""
        return x[self.sequence : self.sequence + 1, :, self.first : self.end]

    def keys(self, x: Tensor) -> Tensor:
        """The tile's columns of a B,H,T,W tensor, as 1,H,columns,W."""
        return x[self.sequence : self.sequence + 1, :, self.low : self.high]


class SinkAttention(torch.autograd.Function):
    """Flash attention over tiles, and one learned logit per head that takes probability only.

    A query's tiles are joined by their log-sums. The flash backward is exact for a part of the
    keys when it is given the output and the log-sum over all of them, sink included.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sink: Tensor,
        tiles: Sequence[Tile],
        scale: float,
    ) -> Tensor:
        """q, k, v: B,H,T,W float32; sink: H. Returns B,H,T,W; rows in no tile are zero."""
        out = torch.zeros_like(q)
        log_sum = torch.full(q.shape[:3], float("-inf"))
        for tile in tiles:
            part, part_sum = _flash(
                tile.queries(q), tile.keys(k), tile.keys(v), 0.0, False,
                attn_mask=tile.mask, scale=scale,
            )  # fmt: skip
            if tile.blind is not None:  # the kernel's own log-sum is finite there
                part_sum = part_sum.masked_fill(tile.blind, float("-inf"))
            _join(tile.queries(out), tile.queries(log_sum), part, part_sum)
        with_sink = torch.logaddexp(log_sum, sink.view(1, -1, 1))
        out *= torch.exp(log_sum - with_sink).unsqueeze(-1)
        ctx.save_for_backward(q, k, v, out, with_sink, sink)
        ctx.tiles, ctx.scale = tiles, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, v and the sink."""
        q, k, v, out, log_sum, sink = ctx.saved_tensors
        grad = gradients[0].contiguous()
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for tile in ctx.tiles:
            parts = _flash_backward(
                tile.queries(grad), tile.queries(q), tile.keys(k), tile.keys(v),
                tile.queries(out), tile.queries(log_sum), 0.0, False,
                attn_mask=tile.mask, scale=ctx.scale,
            )  # fmt: skip
            tile.queries(dq).add_(parts[0])
            tile.keys(dk).add_(parts[1])
            tile.keys(dv).add_(parts[2])
        share = torch.exp(sink.view(1, -1, 1) - log_sum)
        dsink = -(share * (grad * out).sum(-1)).sum((0, 2))
        return dq, dk, dv, dsink, None, None


def _join(out: Tensor, log_sum: Tensor, part: Tensor, part_sum: Tensor) -> None:
    """Add another part of the keys to `out` (1,H,rows,W) and `log_sum` (1,H,rows), in place.

    A row that sees none of these keys has a log-sum of -inf, and whatever in `part`.
    """
    both = torch.logaddexp(log_sum, part_sum)
    out *= torch.exp(log_sum - both).nan_to_num_(0.0).unsqueeze(-1)
    share = torch.exp(part_sum - both).nan_to_num_(0.0).unsqueeze(-1)
    out += (part * share).nan_to_num_(0.0)
    log_sum.copy_(both)


class Dispatch(torch.autograd.Function):
    """Tokens copied into slots, each expert's slots together; the backward is a gather."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, slot: Tensor, used: int) -> Tensor:
        """x: N,D. token: which token every slot holds. slot: N * used, where each token's copies
        went. Returns slots, D.
        """
        ctx.save_for_backward(slot)
        ctx.used = used
        return x[token]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Each token's gradient is the sum over its experts."""
        (slot,) = ctx.saved_tensors
        width = gradients[0].shape[-1]
        return gradients[0][slot].view(-1, ctx.used, width).sum(1), None, None, None


class Collect(torch.autograd.Function):
    """Back from slots to tokens; slots that only fill up get no gradient."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, slot: Tensor) -> Tensor:
        """y: slots, D. Returns N * used, D: the results of token 0, then of token 1, ..."""
        ctx.save_for_backward(slot)
        ctx.n_slots = len(y)
        return y[slot]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Into the slots."""
        (slot,) = ctx.saved_tensors
        grad = gradients[0].new_zeros(ctx.n_slots, gradients[0].shape[-1])
        return grad.index_copy_(0, slot, gradients[0]), None


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """Where every (token, choice) pair goes so that an expert's rows lie together.

    slot: per pair. token: per slot, the token it holds (the first one where it only fills up).
    counts: slots per expert, multiples of `SLOT_MULTIPLE`. share: of all pairs, per expert.
    """

    slot: Tensor
    token: Tensor
    counts: tuple[int, ...]
    share: Tensor


def slots_for(chosen: Tensor, n_experts: int) -> Slots:
    """chosen: N, used. The library prepares its matrix code anew for every number of rows it has
    not met, which costs more than the product itself: so few different numbers are used.
    """
    expert = chosen.reshape(-1)
    order = torch.argsort(expert, stable=True)
    counts = torch.bincount(expert, minlength=n_experts)
    padded = (counts + SLOT_MULTIPLE - 1) // SLOT_MULTIPLE * SLOT_MULTIPLE
    moved = (padded.cumsum(0) - padded) - (counts.cumsum(0) - counts)
    sorted_slot = torch.arange(len(order)) + moved[expert[order]]
    slot = torch.empty_like(order)
    slot[order] = sorted_slot
    token = torch.zeros(int(padded.sum()), dtype=order.dtype)
    token[sorted_slot] = order // chosen.shape[1]
    return Slots(
        slot=slot, token=token, counts=tuple(padded.tolist()), share=counts.float() / len(expert)
    )


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gpt-oss's clamped SwiGLU with its +1 on the linear half."""
    gate = gate.clamp(max=SWIGLU_LIMIT)
    up = up.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT)
    return gate * torch.sigmoid(SWIGLU_ALPHA * gate) * (up + 1)


def swiglu_backward(gate: Tensor, up: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `gate` and `up`; zero where they were clamped."""
    gate_in = (gate <= SWIGLU_LIMIT).to(grad.dtype)
    up_in = (up.abs() <= SWIGLU_LIMIT).to(grad.dtype)
    gate = gate.clamp(max=SWIGLU_LIMIT)
    opened = torch.sigmoid(SWIGLU_ALPHA * gate)
    swish = gate * opened
    slope = opened + SWIGLU_ALPHA * swish * (1 - opened)
    linear = up.clamp(-SWIGLU_LIMIT, SWIGLU_LIMIT) + 1
    return grad * linear * slope * gate_in, grad * swish * up_in


class ExpertRows(torch.autograd.Function):
    """Rows sorted by expert through their experts: the non-linearity is done for all at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: Sequence[int], *weights: Tensor) -> Tensor:
        """x: rows, D, `counts[e]` rows for expert e, in the type to compute in.

        weights: gate E,F,D, its bias E,F, up and its bias likewise, down E,D,F and its bias E,D.
        """
        gate, gate_bias, up, up_bias, down, down_bias = (w.to(x.dtype) for w in weights)
        gated = _through(x, counts, gate, gate_bias)
        upped = _through(x, counts, up, up_bias)
        hidden = swiglu(gated, upped)
        ctx.save_for_backward(x, gated, upped, hidden, gate, up, down)
        ctx.counts = counts
        return _through(hidden, counts, down, down_bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and, in float32, of the weights."""
        x, gated, upped, hidden, gate, up, down = ctx.saved_tensors
        counts, grad = ctx.counts, gradients[0]
        dhidden = _back(grad, counts, down)
        dgated, dupped = swiglu_backward(gated, upped, dhidden)
        dx = _back(dgated, counts, gate) + _back(dupped, counts, up)
        pairs = ((dgated, x), (dupped, x), (grad, hidden))
        weights = [g for given, seen in pairs for g in _weight_gradients(given, seen, counts)]
        return dx, None, *weights


def _ranges(counts: Sequence[int]) -> Iterator[tuple[int, slice]]:
    start = 0
    for expert, count in enumerate(counts):
        yield expert, slice(start, start + count)
        start += count


def _through(x: Tensor, counts: Sequence[int], weight: Tensor, bias: Tensor) -> Tensor:
    """x: rows, I; weight: E,O,I; bias: E,O. Returns rows, O."""
    out = x.new_empty(len(x), weight.shape[1])
    for expert, rows in _ranges(counts):
        torch.addmm(bias[expert], x[rows], weight[expert].T, out=out[rows])
    return out


def _back(grad: Tensor, counts: Sequence[int], weight: Tensor) -> Tensor:
    """The gradient of `_through`'s x."""
    out = grad.new_empty(len(grad), weight.shape[2])
    for expert, rows in _ranges(counts):
        torch.mm(grad[rows], weight[expert], out=out[rows])
    return out


def _weight_gradients(grad: Tensor, x: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of `_through`'s weight E,O,I and bias E,O, in float32."""
    weight = grad.new_empty(len(counts), grad.shape[1], x.shape[1])
    bias = torch.empty(len(counts), grad.shape[1])
    for expert, rows in _ranges(counts):
        torch.mm(grad[rows].T, x[rows], out=weight[expert])
        torch.sum(grad[rows], 0, dtype=torch.float32, out=bias[expert])
    return weight.float(), bias
