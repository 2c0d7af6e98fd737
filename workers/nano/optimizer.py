"""Muon for attention matrices, AdamW for the rest; one learning-rate factor scales both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workers.nano.model import Nano

ADAM_RATE = 3e-3
MUON_RATE = 0.02
MUON_MOMENTUM = 0.95
MUON_DECAY = 0.02
# Where the processor has no instructions for it, bfloat16 is some fifty times slower than float32.
HAS_BF16 = torch.cpu._is_avx512_bf16_supported()
_MUON_NAMES = ("attention.q", "attention.k", "attention.v", "attention.out")
_EXPERT_NAMES = ("experts.gate", "experts.up", "experts.down")


def orthogonalised(gradient: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz towards the nearest orthogonal matrix (Jordan et al., 2024)."""
    x: Tensor = gradient.bfloat16() if HAS_BF16 else gradient.float()
    x = x / x.norm().clamp(min=1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


class NanoOptimizer:
    """Both optimisers behind one `step`; `state_dict` restores both exactly."""

    def __init__(self, model: Nano) -> None:
        groups: dict[str, list[nn.Parameter]] = {
            "experts": [],
            "embedding": [],
            "head": [],
            "rest": [],
        }
        self.matrices: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if name.endswith(_MUON_NAMES):
                self.matrices.append(parameter)
            elif name.endswith(_EXPERT_NAMES):
                groups["experts"].append(parameter)
            else:
                groups[name if name in groups else "rest"].append(parameter)
        rates = {"experts": 0.5, "embedding": 3.0, "head": 0.6, "rest": 1.0}
        self.base_rates = [ADAM_RATE * rates[name] for name in groups]
        self.adam = torch.optim.AdamW(
            [{"params": parameters} for parameters in groups.values()],
            lr=ADAM_RATE, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0, fused=True,
        )  # fmt: skip
        self.momenta = [torch.zeros_like(p) for p in self.matrices]

    def step(self, factor: float) -> None:
        """Apply the gradients at `factor` times the base learning rates, then drop them."""
        for group, rate in zip(self.adam.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.adam.step()
        with torch.no_grad():
            self._muon_step(MUON_RATE * factor)
        for parameter in self.matrices:
            parameter.grad = None
        self.adam.zero_grad(set_to_none=True)

    def _muon_step(self, rate: float) -> None:
        for parameter, momentum in zip(self.matrices, self.momenta, strict=True):
            if parameter.grad is None:
                continue
            momentum.mul_(MUON_MOMENTUM).add_(parameter.grad)
            update = orthogonalised(parameter.grad.add(momentum, alpha=MUON_MOMENTUM))
            scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.mul_(1 - rate * MUON_DECAY).add_(update, alpha=-rate * scale)

    def state_dict(self) -> dict[str, Any]:
        """Both optimisers' state."""
        return {"adam": self.adam.state_dict(), "momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.adam.load_state_dict(state["adam"])
        for own, saved in zip(self.momenta, state["momenta"], strict=True):
            own.copy_(saved)
