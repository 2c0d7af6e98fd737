"""What a card of a given size can run, by the formulas with which engines size themselves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.machine import GB, Fit, Gpu, Machine, what_can_run

CARDS_GB = (8, 12, 16, 24)
JOB_TOKENS = 1_500 + 500
"""A chunk of usual length, with instructions, task and answer."""
DRIVER_BYTES = 500_000_000
"""Memory of a card that its driver and a desktop keep; an estimate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardRow:
    """One model on a machine with one card."""

    card_gb: int
    model: str
    fit: Fit
    context_tokens: int
    """Tokens of KV cache beside the weights; 0 when the model does not fit."""

    @property
    def n_chunks(self) -> int:
        """Chunks whose KV fits at the same time, each with one job."""
        return self.context_tokens // JOB_TOKENS


def card_rows(ram_gb: int, cards_gb: Sequence[int] = CARDS_GB) -> list[CardRow]:
    """Every model on every card, beside `ram_gb` of free main memory."""
    return [
        CardRow(
            card_gb=card_gb,
            model=verdict.model,
            fit=verdict.fit,
            context_tokens=verdict.context_tokens,
        )
        for card_gb in cards_gb
        for verdict in what_can_run(_machine(card_gb, ram_gb))
        if verdict.model != "nano"
    ]


def _machine(card_gb: int, ram_gb: int) -> Machine:
    """A machine with one such card and a llama.cpp that can use it."""
    card = Gpu(name="a card", total_bytes=card_gb * GB, free_bytes=card_gb * GB - DRIVER_BYTES)
    return Machine(
        n_physical_cores=6,
        n_logical_cores=12,
        ram_total_bytes=ram_gb * GB,
        ram_available_bytes=ram_gb * GB,
        cpu_flags=frozenset(),
        gpus=(card,),
        llama_version="",
        gpu_offload=True,
        models_dir=Path(),
        disk_free_bytes=0,
        models_present=frozenset(),
    )
