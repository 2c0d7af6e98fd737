"""Attention that is told where to look while training; it costs nothing when the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.nano.model import Nano
from workers.nano.packing import Batch, Pointing

POINTER_SHARE = 0.5
READING_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """The loss, and how much of their attention the supervised rows put where they should."""

    loss: Tensor
    on_span: float
    on_sink: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One layer's rotated q and k, per sequence (H,T,W and G,T,W), its sinks and mask (B,1,T,T)."""

    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    sink: Tensor
    mask: Tensor
    pointer_head: int

    def scores(self, sequence: int, rows: Tensor) -> Tensor:
        """Logits (heads, rows, T + 1) of these rows over all keys and, last, the sink.

        Heads: the pointer head, then those of the last key/value group.
        """
        q, k = self.q[sequence], self.k[sequence]
        group = q.shape[0] // k.shape[0]
        heads = [self.pointer_head, *range(q.shape[0] - group, q.shape[0])]
        queries = q[torch.tensor(heads)[:, None], rows]
        keys = k[[h // group for h in heads]]
        logits = queries @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5
        logits = logits + self.mask[sequence, 0, rows]
        sink = self.sink[heads].view(-1, 1, 1).expand(-1, len(rows), 1)
        return torch.cat([logits, sink], -1)


def _inside(pointings: Sequence[Pointing], n_keys: int) -> Tensor:
    """(rows, T + 1) booleans: the keys each row should look at; the last column is the sink."""
    index = torch.arange(n_keys)
    start = torch.tensor([p.start for p in pointings])[:, None]
    end = torch.tensor([p.end for p in pointings])[:, None]
    return torch.cat([(index >= start) & (index < end), start < 0], -1)


def _span_losses(scores: Tensor, pointings: Sequence[Pointing]) -> tuple[Tensor, Tensor]:
    """Minus log of the attention on the right keys, per row, mean over the heads of `scores`.

    Rows that see none of their keys (outside the sliding window) are left out: the second tensor
    tells which rows (of all) are in.
    """
    wanted = scores.masked_fill(~_inside(pointings, scores.shape[-1] - 1), float("-inf"))
    seen = torch.isfinite(wanted).any(-1).all(0)
    return (scores[:, seen].logsumexp(-1) - wanted[:, seen].logsumexp(-1)).mean(0), seen


def _pointer_losses(scores: Tensor, pointings: Sequence[Pointing]) -> Tensor:
    """Cross-entropy of one head (scores: rows, T + 1) on the one best key, where there is one."""
    first = torch.tensor([p.first for p in pointings])
    reach = scores.gather(1, first.clamp(min=0)[:, None])[:, 0]
    seen = torch.isfinite(reach) & (first >= 0)
    return F.cross_entropy(scores[seen], first[seen], reduction="none")


def _layer_loss(layer: _Layer, per_sequence: Sequence[Sequence[Pointing]]) -> Looked:
    spans, pointers, sinks = [], [], []
    for index, pointings in enumerate(per_sequence):
        if not pointings:
            continue
        scores = layer.scores(index, torch.tensor([p.row for p in pointings]))
        span, seen = _span_losses(scores[1:], pointings)
        spans.append(span)
        sinks.append(torch.tensor([p.start < 0 for p in pointings])[seen])
        pointers.append(_pointer_losses(scores[0], pointings))
    span, sink = torch.cat(spans), torch.cat(sinks)
    loss = span.mean()
    pointer = torch.cat(pointers)
    if len(pointer):
        loss = loss + POINTER_SHARE * pointer.mean()
    share = torch.exp(-span.detach())
    return Looked(
        loss=loss,
        on_span=float(share[~sink].mean()) if bool((~sink).any()) else 0.0,
        on_sink=float(share[sink].mean()) if bool(sink.any()) else 0.0,
    )


def attention_loss(model: Nano, attention: Sequence[tuple[Tensor, Tensor]], batch: Batch) -> Looked:
    """The last layer must look at the answer (or its sink), the one before at what it reads."""
    group = model.shape.n_heads // model.shape.n_kv_heads

    def layer(index: int) -> _Layer:
        sliding = model.shape.is_sliding(index)
        return _Layer(
            q=attention[index][0].unbind(0),
            k=attention[index][1].unbind(0),
            sink=model.blocks[index].attention.sink,  # type: ignore[union-attr, arg-type]
            mask=batch.masks[0] if sliding else batch.masks[1],
            pointer_head=group if sliding else group - 1,
        )

    last = model.shape.n_layers - 1
    answers = _layer_loss(layer(last), [s.answers for s in batch.sequences])
    reads = _layer_loss(layer(last - 1), [s.reads for s in batch.sequences])
    return Looked(
        loss=answers.loss + READING_SHARE * reads.loss,
        on_span=answers.on_span,
        on_sink=answers.on_sink,
    )
