"""Run folders of made-up rows, for the tests of reports and capacity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.rows import ROWS, Manifest, Row, StrategySpec, write_manifest, write_rows


def a_row(item_id: str, strategy: str, *, correct: bool = True, **changes: Any) -> Row:
    """An answered question of one strategy; `changes` are other fields."""
    known = {
        "item_id": item_id,
        "dataset": "made-up",
        "strategy": strategy,
        "kind": "amount",
        "outcome": "answered",
        "answerable": True,
        "score": float(correct),
        "correct": correct,
        "cloud_usd": 0.0,
        "paid_usd": 0.0,
        "question": f"What is {item_id}?",
        "answer": "$5",
        "gold_answers": ("$5",) if correct else ("$6",),
        "trace_id": f"run_{strategy}_{item_id}",
        "document": f"document {item_id[-1]}",
    }
    return Row(**{**known, **changes})


def write_run(folder: Path, rows: Sequence[Row], *, n_items: int | None = None) -> Path:
    """A run's folder with these rows; its items are theirs, or `n_items` of the first kind more."""
    kinds = Counter({row.item_id: row.kind for row in rows}.values())
    known = kinds.total()
    if n_items is not None:
        kinds[rows[0].kind if rows else "amount"] += n_items - known
    manifest = Manifest(
        dataset="made-up",
        source="the tests",
        licence="Apache-2.0",
        strategies=tuple(
            StrategySpec(label=label, options={})
            for label in dict.fromkeys(r.strategy for r in rows)
        ),
        worker="scripted",
        cloud="recorded",
        price_snapshot="none",
        seed=0,
        limit=None,
        n_items=n_items or known,
        kinds=dict(kinds),
        items_sha256="0" * 64,
        created_at="2025-01-01T00:00:00Z",
        versions={"minions": "0.1.0"},
    )
    write_manifest(folder, manifest)
    write_rows(folder / ROWS, rows)
    return folder
