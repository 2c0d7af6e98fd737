"""MXFP4 as ggml stores it, in PyTorch: 32 values share one power-of-two scale, each is E2M1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 32
_LARGEST = 6.0


def round_to_mxfp4(weight: Tensor) -> Tensor:
    """The values `weight` has after a trip through MXFP4, in blocks of 32 along the last axis.

    Equal, bit for bit, to ggml's `quantize_row_mxfp4_ref` followed by its dequantisation. The
    levels 0, .5, 1, 1.5, 2, 3, 4, 6 lie .5, 1 and 2 apart; a value between two goes to the lower.
    """
    blocks = weight.detach().reshape(-1, BLOCK).float()
    largest = blocks.abs().amax(1, keepdim=True)
    exponent = torch.floor(torch.log2(largest.clamp(min=1e-38))) - 2
    scale = torch.exp2(torch.where(largest > 0, exponent, torch.zeros_like(largest)))
    scaled = blocks / scale
    size = scaled.abs()
    apart = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    level = (size / apart).sub_(0.5).ceil_().mul_(apart).clamp_(max=_LARGEST)
    return level.mul_(scaled.sign_()).mul_(scale).view_as(weight)


class FakeMxfp4(torch.autograd.Function):
    """Rounds in the forward pass, lets the gradient through unchanged (straight-through)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:  # noqa: ARG004
        """`weight` rounded to MXFP4."""
        return round_to_mxfp4(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        """The gradient as it came."""
        return gradients[0]
