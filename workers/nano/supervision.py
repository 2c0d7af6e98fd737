"""Attention that is told where to look while training; it costs nothing when the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.nano.model import Nano, Outputs
from workers.nano.packing import Aim, Batch, Pointing

POINTER_SHARE = 0.5
READING_SHARE = 0.5
COPYING_SHARE = 0.5
EARLY_SHARE = 0.25
FINDING_SHARE = 0.3
GATHERING_SHARE = 0.3
MATCHING_SHARE = 0.6
MATCHING_LAYERS = 6
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
    is_matching: bool = False

    @property
    def n_heads(self) -> int:
        """Query heads."""
        return int(self.q[0].shape[0])

    @property
    def group(self) -> int:
        """Query heads per key/value head."""
        return self.n_heads // int(self.k[0].shape[0])

    @property
    def answering_heads(self) -> list[int]:
        """The pointer head, then those of the last key/value group but one that matches."""
        first = self.n_heads - self.group + int(self.is_matching and self.group > 1)
        return [self.pointer_head, *range(first, self.n_heads)]

    def scores(self, sequence: int, rows: Tensor, heads: list[int]) -> Tensor:
        """Logits (heads, rows, T + 1) of these rows over all keys and, last, the sink."""
        q, k, group = self.q[sequence], self.k[sequence], self.group
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


def _aimed(aims: Sequence[Aim], n_keys: int) -> Tensor:
    """As `_inside`, for aims."""
    wanted = torch.zeros(len(aims), n_keys + 1, dtype=torch.bool)
    marks = [(r, key) for r, aim in enumerate(aims) for key in aim.keys or (n_keys,)]
    rows, keys = torch.tensor(marks).T
    wanted[rows, keys] = True
    return wanted


def _span_losses(scores: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Minus log of the attention on the right keys, per row, mean over the heads of `scores`.

    Rows that see none of their keys (outside the sliding window) are left out: the second tensor
    tells which rows (of all) are in.
    """
    wanted = scores.masked_fill(~inside, float("-inf"))
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
            scores = layer.scores(index, rows, [0])[0]
            losses.append(F.cross_entropy(scores, keys, reduction="none"))
    return torch.cat(losses).mean()


def _aim_loss(layer: _Layer, heads: list[int], per_sequence: Sequence[Sequence[Aim]]) -> Tensor:
    """Minus log of these heads' attention on what each row aims at, mean over rows."""
    losses = [layer.sink.new_zeros(1)]
    for index, aims in enumerate(per_sequence):
        if aims:
            scores = layer.scores(index, torch.tensor([aim.row for aim in aims]), heads)
            losses.append(_span_losses(scores, _aimed(aims, scores.shape[-1] - 1))[0])
    return torch.cat(losses).mean()


def _spread_loss(layer: _Layer, heads: list[int], per_sequence: Sequence[Sequence[Aim]]) -> Tensor:
    """Cross-entropy of these heads' attention with an even share for every key aimed at.

    `_aim_loss` is content with one of the keys, but names often share a word.
    """
    losses = [layer.sink.new_zeros(1)]
    for index, aims in enumerate(per_sequence):
        if aims:
            scores = layer.scores(index, torch.tensor([aim.row for aim in aims]), heads)
            wanted = _aimed(aims, scores.shape[-1] - 1) & torch.isfinite(scores[0])
            logs = torch.log_softmax(scores, -1).masked_fill(~wanted, 0.0)
            losses.append((-logs.sum(-1) / wanted.sum(-1).clamp(min=1)).mean(0))
    return torch.cat(losses).mean()


def _layer_loss(layer: _Layer, per_sequence: Sequence[Sequence[Pointing]]) -> Looked:
    spans, pointers, sinks = [], [], []
    for index, pointings in enumerate(per_sequence):
        if not pointings:
            continue
        rows = torch.tensor([p.row for p in pointings])
        scores = layer.scores(index, rows, layer.answering_heads)
        span, seen = _span_losses(scores[1:], _inside(pointings, scores.shape[-1] - 1))
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

    The other full layers are asked, more gently, to look at the answer too: what they find there,
    the later layers can build on. Of these four layers the first sliding one gathers which entity
    a made-up fact is about and what is said of it, the first full one matches these halves with
    the question's. The model's first full layer finds the question's words in the chunk.
    """
    group = model.shape.n_heads // model.shape.n_kv_heads
    last = model.shape.n_layers - 1
    is_deep = model.shape.n_layers >= MATCHING_LAYERS

    def layer(index: int) -> _Layer:
        sliding = model.shape.is_sliding(index)
        return _Layer(
            q=outputs.attention[index][0].unbind(0),
            k=outputs.attention[index][1].unbind(0),
            sink=model.blocks[index].attention.sink,  # type: ignore[union-attr, arg-type]
            mask=batch.masks[0] if sliding else batch.masks[1],
            pointer_head=group if sliding else group - 1,
            is_matching=is_deep and index == last - 2,
        )

    pointings = [s.answers for s in batch.sequences]
    answers = _layer_loss(layer(last), pointings)
    reads = _layer_loss(layer(last - 1), [s.reads for s in batch.sequences])
    loss = answers.loss + READING_SHARE * reads.loss
    loss = loss + COPYING_SHARE * _copy_loss(layer(last), [s.copies for s in batch.sequences])
    for index in range(1, last, 2):
        loss = loss + EARLY_SHARE * _layer_loss(layer(index), pointings).loss
    loss = loss + FINDING_SHARE * _aim_loss(layer(1), [0], [s.finds for s in batch.sequences])
    if is_deep:
        loss = loss + _matching_loss(layer(last - 3), layer(last - 2), batch)
    return Looked(loss=loss, on_span=answers.on_span, on_sink=answers.on_sink)


def _matching_loss(gathering: _Layer, matching: _Layer, batch: Batch) -> Tensor:
    """Halves of facts and questions: gathered by one key/value group each, matched by one head."""
    group, sequences = gathering.group, batch.sequences
    entity_heads, rest_heads = list(range(group)), list(range(group, gathering.n_heads))
    gathered = _spread_loss(gathering, entity_heads, [s.entities for s in sequences])
    gathered = gathered + _spread_loss(gathering, rest_heads, [s.rests for s in sequences])
    matched = _aim_loss(matching, entity_heads[:1], [s.same_entity for s in sequences])
    matched = matched + _aim_loss(matching, rest_heads[:1], [s.same_attribute for s in sequences])
    copied = _copy_loss(matching, [s.copies for s in sequences])
    return GATHERING_SHARE * gathered + MATCHING_SHARE * matched + COPYING_SHARE / 2 * copied


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
