"""The hand-written training kernels against the plain formulas."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

REASON = "training needs the `train` extra (PyTorch, tokenizers, gguf)"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("gguf", reason=REASON)
pytest.importorskip("tokenizers", reason=REASON)

from torch import Tensor  # noqa: E402

from workers.nano.kernels import (  # noqa: E402
    SLOT_MULTIPLE,
    ExpertRows,
    SinkAttention,
    Tile,
    applied,
    slots_for,
    swiglu,
)
from workers.nano.packing import Batch, Sequenced, make_batch, stretches  # noqa: E402

WINDOW = 40
LENGTHS = st.tuples(st.integers(1, 260), st.lists(st.integers(1, 120), min_size=1, max_size=6))


def _sequence(n_chunk: int, n_branches: list[int]) -> Sequenced:
    """Only what decides who sees whom."""
    branches = [0] * n_chunk
    positions = list(range(n_chunk))
    for number, length in enumerate(n_branches, 1):
        branches += [number] * length
        positions += range(n_chunk, n_chunk + length)
    n = len(branches)
    return Sequenced(
        ids=[0] * n, positions=positions, branches=branches, weights=[0.0] * n, parents=[0] * n
    )


def _batch(*lengths: tuple[int, list[int]]) -> Batch:
    return make_batch([_sequence(*one) for one in lengths], WINDOW)


@settings(deadline=None, max_examples=30)
@given(first=LENGTHS, second=LENGTHS)
def test_tiles_are_the_mask(first: tuple[int, list[int]], second: tuple[int, list[int]]) -> None:
    batch = _batch(first, second)
    for mask, tiles in zip(batch.masks, batch.tiles, strict=True):
        covered = torch.zeros(mask.shape[0], *mask.shape[2:], dtype=torch.int)
        for tile in tiles:
            part = 1 if tile.mask is None else torch.isfinite(tile.mask[0, 0]).int()
            covered[tile.sequence, tile.first : tile.end, tile.low : tile.high] += part
        for index, sequence in enumerate(batch.sequences):
            n = len(sequence)
            seen = torch.isfinite(mask[index, 0, :n]).int()
            assert torch.equal(covered[index, :n], seen)
            assert not covered[index, n:].any(), "padding asks nothing"


@settings(deadline=None)
@given(lengths=LENGTHS)
def test_questions_share_no_stretch_with_the_chunk(lengths: tuple[int, list[int]]) -> None:
    branches = _sequence(*lengths).branches
    pieces = stretches(branches)
    assert [i for low, high in pieces for i in range(low, high)] == list(range(len(branches)))
    for low, high in pieces:
        assert len({branch == 0 for branch in branches[low:high]}) == 1


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) * 0.125 + mask
    extra = sink.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.softmax(torch.cat([scores, extra], -1), -1)[..., :-1] @ v


@pytest.mark.parametrize("kind", [0, 1], ids=["sliding", "full"])
def test_attention_over_tiles_is_attention(kind: int) -> None:
    batch = _batch((150, [40, 70, 30]), (60, [90, 20]))
    mask, tiles = batch.masks[kind], batch.tiles[kind]
    generator = torch.Generator().manual_seed(3)
    sizes = (2, 4, mask.shape[-1], 64)
    inputs = [torch.randn(*sizes, generator=generator).requires_grad_() for _ in range(3)]
    inputs.append(torch.randn(4, generator=generator).requires_grad_())
    asked = torch.zeros(2, 1, sizes[2], 1)
    for index, sequence in enumerate(batch.sequences):
        asked[index, 0, : len(sequence)] = 1
    pull = torch.randn(*sizes, generator=generator) * asked
    plain = _plain_attention(*inputs, mask)
    tiled = applied(SinkAttention, *inputs, tiles, 0.125)
    assert torch.allclose(plain * asked, tiled, atol=1e-5)
    for wanted, got in zip(
        torch.autograd.grad((plain * pull).sum(), inputs),
        torch.autograd.grad((tiled * pull).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(wanted, got, atol=1e-4)


def test_a_row_that_a_tile_hides_takes_nothing_from_it() -> None:
    q, k, v = torch.randn(3, 1, 1, 4, 8, generator=torch.Generator().manual_seed(1)).unbind(0)
    blind = torch.zeros(1, 1, 4, 2)
    blind[0, 0, 1] = float("-inf")
    tiles = (
        Tile(sequence=0, first=0, end=4, low=0, high=2),
        Tile(sequence=0, first=0, end=4, low=2, high=4, mask=blind, blind=blind[..., 0] < 0),
    )
    mask = torch.cat([torch.zeros(1, 1, 4, 2), blind], -1)
    out = applied(SinkAttention, q, k, v, torch.zeros(1), tiles, 0.125)
    assert torch.allclose(out, _plain_attention(q, k, v, torch.zeros(1), mask), atol=1e-6)


def _plain_experts(x: Tensor, counts: list[int], weights: list[Tensor]) -> Tensor:
    gate, gate_bias, up, up_bias, down, down_bias = weights
    outs = []
    for e, rows in enumerate(x.split(counts)):
        hidden = swiglu(rows @ gate[e].T + gate_bias[e], rows @ up[e].T + up_bias[e])
        outs.append(hidden @ down[e].T + down_bias[e])
    return torch.cat(outs)


def test_experts_rows_have_exact_gradients() -> None:
    generator = torch.Generator().manual_seed(2)
    counts = [5, 0, 9]
    sizes = ((3, 12, 8), (3, 12), (3, 12, 8), (3, 12), (3, 8, 12), (3, 8))
    x = (3 * torch.randn(14, 8, generator=generator)).requires_grad_()  # far enough to be clamped
    weights = [torch.randn(*s, generator=generator).requires_grad_() for s in sizes]
    pull = torch.randn(14, 8, generator=generator)
    plain, fast = _plain_experts(x, counts, weights), applied(ExpertRows, x, counts, *weights)
    assert torch.allclose(plain, fast, atol=1e-4)
    for wanted, got in zip(
        torch.autograd.grad((plain * pull).sum(), [x, *weights]),
        torch.autograd.grad((fast * pull).sum(), [x, *weights]),
        strict=True,
    ):
        assert torch.allclose(wanted, got, atol=1e-3, rtol=1e-4)


@settings(deadline=None)
@given(st.lists(st.permutations(range(4)), min_size=1, max_size=90))
def test_every_choice_has_a_slot_with_its_expert(rows: list[list[int]]) -> None:
    chosen = torch.tensor([row[:2] for row in rows])
    slots = slots_for(chosen, 4)
    assert all(count % SLOT_MULTIPLE == 0 for count in slots.counts)
    assert sum(slots.counts) == len(slots.token)
    expert_of = torch.repeat_interleave(torch.arange(4), torch.tensor(slots.counts))
    assert len(set(slots.slot.tolist())) == chosen.numel()
    assert torch.equal(expert_of[slots.slot], chosen.reshape(-1))
    assert torch.equal(slots.token[slots.slot], torch.arange(len(rows)).repeat_interleave(2))
    assert float(slots.share.sum()) == pytest.approx(1.0)
