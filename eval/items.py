"""A labelled question, whatever dataset it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question of one document with its gold answers."""

    item_id: str
    """Unique in its dataset and stable: an interrupted run is resumed by it."""
    document_name: str
    document_text: str
    question: str
    gold_answers: tuple[str, ...]
    """Any of them is right; empty when the document does not hold the answer."""
    kind: str
    """Question type, for tables per type."""

    @property
    def answerable(self) -> bool:
        return bool(self.gold_answers)
