"""Which real documents are kept for validation: by document, from a seeded hash, never by row."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

SPLIT_SEED = 20261121
N_VALIDATION_CONTRACTS = 15
VALIDATION_SHARE = 0.13


@functools.cache
def training_contracts() -> frozenset[str]:
    """The ids of the contracts that the shipped model was trained on."""
    path = Path(__file__).with_name("training_contracts.txt")
    return frozenset(path.read_text(encoding="utf-8").splitlines())


def document_rank(doc_id: str, seed: int = SPLIT_SEED) -> float:
    """A number in [0, 1) that depends on the document's id and the seed only."""
    digest = hashlib.sha256(f"{seed}:{doc_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def validation_contracts(doc_ids: Iterable[str]) -> list[str]:
    """The `N_VALIDATION_CONTRACTS` ids with the lowest rank, sorted by name."""
    ranked = sorted(set(doc_ids), key=document_rank)
    return sorted(ranked[:N_VALIDATION_CONTRACTS])


def is_validation(doc_id: str) -> bool:
    """For papers and tables: the lowest `VALIDATION_SHARE` of ranks."""
    return document_rank(doc_id) < VALIDATION_SHARE
