"""The numbers that fix nano's architecture; they also become the GGUF's metadata."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class NanoShape:
    """Sizes of a gpt-oss model (widths in values, windows and contexts in tokens)."""

    n_vocab: int = 4736
    width: int = 256
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int = 2
    head_width: int = 64
    n_experts: int = 8
    n_experts_used: int = 2
    expert_width: int = 256
    sliding_window: int = 128
    rope_theta: float = 150000.0
    yarn_factor: float = 32.0
    yarn_original_context: int = 4096
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0
    norm_epsilon: float = 1e-5

    def is_sliding(self, layer: int) -> bool:
        """Even layers look back `sliding_window` tokens, odd layers see everything (gpt-oss)."""
        return layer % 2 == 0

    def as_dict(self) -> dict[str, int | float]:
        """Plain values, for checkpoints."""
        return asdict(self)
