"""Attention that is told where to look while training; it costs nothing when the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.nano.model import Nano, Outputs
from workers.nano.packing import Batch, Pointing

POINTER_SHARE = 0.5
READING_SHARE = 0.5
COPYING_SHARE = 0.5
EARLY_SHARE = 0.25
TAG_OFFSET = 4.0
TAG_POSITIVE_WEIGHT = 3.0


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


def _copy_loss(layer: _Layer, per_sequence: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    """Cross-entropy of the first head on the chunk token that each copying row writes next."""
    losses = [layer.sink.new_zeros(1)]
    for index, copies in enumerate(per_sequence):
        if copies:
            rows, keys = torch.tensor(copies).T
            q, k = layer.q[index][0, rows], layer.k[index][0]
            logits = q @ k.T * q.shape[-1] ** -0.5 + layer.mask[index, 0, rows]
            sink = layer.sink[0].expand(len(rows), 1)
            scores = torch.cat([logits, sink], -1)
            losses.append(F.cross_entropy(scores, keys, reduction="none"))
    return torch.cat(losses).mean()


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


def attention_loss(model: Nano, outputs: Outputs, batch: Batch) -> Looked:
    """The last layer must look at the answer (or its sink), the one before at what it reads.

    The first full layer is asked, more gently, to look at the answer too: what it finds there, the
    later layers can build on.
    """
    group = model.shape.n_heads // model.shape.n_kv_heads

    def layer(index: int) -> _Layer:
        sliding = model.shape.is_sliding(index)
        return _Layer(
            q=outputs.attention[index][0].unbind(0),
            k=outputs.attention[index][1].unbind(0),
            sink=model.blocks[index].attention.sink,  # type: ignore[union-attr, arg-type]
            mask=batch.masks[0] if sliding else batch.masks[1],
            pointer_head=group if sliding else group - 1,
        )

    last = model.shape.n_layers - 1
    answers = _layer_loss(layer(last), [s.answers for s in batch.sequences])
    reads = _layer_loss(layer(last - 1), [s.reads for s in batch.sequences])
    early = _layer_loss(layer(1), [s.answers for s in batch.sequences])
    copying = _copy_loss(layer(last), [s.copies for s in batch.sequences])
    return Looked(
        loss=answers.loss
        + EARLY_SHARE * early.loss
        + READING_SHARE * reads.loss
        + COPYING_SHARE * copying,
        on_span=answers.on_span,
        on_sink=answers.on_sink,
    )


def clause_loss(model: Nano, outputs: Outputs, batch: Batch) -> Tensor:
    """Clauses and the questions for them must lie in the same direction before the last layer.

    Per category one direction: tokens of a clause are told from other tokens of the chunk by it
    (binary, most tokens are in no clause), questions by which of the 41 they ask for. The last
    layer's attention then has little left to learn to match them.
    """
    states = F.rms_norm(outputs.before_last, outputs.before_last.shape[-1:])
    scores = states @ model.clause_directions.T
    losses = [scores.new_zeros(())]
    for index, sequence in enumerate(batch.sequences):
        if sequence.chunk_clauses is not None:
            n_chunk = sequence.branches.count(0)
            losses.append(_tag_loss(scores[index, :n_chunk].float(), sequence.chunk_clauses))
        if sequence.asked_clauses:
            rows, numbers = torch.tensor(sequence.asked_clauses).T
            losses.append(F.cross_entropy(scores[index, rows].float(), numbers))
    return torch.stack(losses).sum() / len(batch.sequences)


def _tag_loss(scores: Tensor, clauses: Sequence[tuple[int, int, int]]) -> Tensor:
    """scores: (chunk tokens, categories). Mean over tokens of the summed binary losses."""
    wanted = torch.zeros_like(scores)
    for start, end, number in clauses:
        wanted[start:end, number] = 1.0
    offset = scores - TAG_OFFSET
    weight = torch.where(wanted > 0, TAG_POSITIVE_WEIGHT, 1.0)
    return (
        (F.binary_cross_entropy_with_logits(offset, wanted, reduction="none") * weight)
        .sum(-1)
        .mean()
    )
