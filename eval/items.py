"""A labelled question, whatever dataset it comes from."""

from __future__ import annotations

import enum
import hashlib
import json
import random
import string
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from eval.grader import TOLERANCE
from minions.errors import BadRequest


class DatasetName(enum.StrEnum):
    """What can be evaluated on."""

    CUAD = "cuad"
    QMSUM = "qmsum"
    COVIDQA = "covidqa"
    TATQA = "tatqa"
    FINANCEBENCH = "financebench"
    LONGHEALTH = "longhealth"
    QASPER = "qasper"
    GENERATED = "generated"
    OWN = "own"


class AnswerType(enum.StrEnum):
    """What a right answer looks like; each has its own rule in `eval.answers`."""

    SPAN = "span"
    """Words of the document. Any of the golds is right."""
    NUMBER = "number"
    """A figure, in any notation, unit and scale. Any of the golds is right."""
    LIST = "list"
    """Several things. All of the golds together are the answer, in any order."""
    CHOICE = "choice"
    """One of `Item.choices`, by its letter or its words. The gold is the choice's text."""
    YES_NO = "yes_no"
    """The gold begins with yes or no."""
    FREE = "free"
    """A sentence or two, judged by the facts in it."""
    SUMMARY = "summary"
    """A paragraph, compared by the longest common subsequence of words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldEvidence:
    """A place that shows the answer."""

    text: str
    """As it stands in the document; empty where only a page is known."""
    start: int | None = None
    """Character offset in the item's own text of the document; None where not recorded."""
    end: int | None = None
    page: int | None = None
    """From 1."""
    document: str | None = None
    """Name of the document; None where the item has one only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemDocument:
    """A document of an item: its text, or the file that holds it."""

    name: str
    text: str | None = None
    path: Path | None = None
    """Read by the product's own ingest (PDF, DOCX, HTML, text)."""

    def __post_init__(self) -> None:
        if (self.text is None) == (self.path is None):
            raise ValueError(f"{self.name} needs either a text or a path")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One question of one or more documents with its gold answers."""

    item_id: str
    """Unique in its dataset and stable: an interrupted run is resumed by it."""
    documents: tuple[ItemDocument, ...]
    question: str
    gold_answers: tuple[str, ...]
    """See `AnswerType` for how several are meant; empty when the documents do not hold the answer.
    """
    kind: str
    """Question type, for tables per type."""
    answer_type: AnswerType = AnswerType.SPAN
    evidence: tuple[GoldEvidence, ...] = ()
    choices: tuple[str, ...] = ()
    tolerance: Decimal = TOLERANCE
    """Relative difference within which a figure is the gold's."""

    @property
    def answerable(self) -> bool:
        return bool(self.gold_answers)

    @property
    def document_name(self) -> str:
        """Of the first document: rows that share it stay together."""
        return self.documents[0].name

    @property
    def document_text(self) -> str:
        """Of an item with a single document that is given as text."""
        (document,) = self.documents
        if document.text is None:
            raise ValueError(f"{self.item_id} has a file, not a text")
        return document.text

    @property
    def asked(self) -> str:
        """The question as it is put, with its choices."""
        if not self.choices:
            return self.question
        options = [f"{letter}. {text}" for letter, text in lettered(self.choices)]
        return "\n".join([self.question, "Answer with one of these:", *options])


def lettered(choices: Sequence[str]) -> list[tuple[str, str]]:
    """Each choice with its letter, from A."""
    return list(zip(string.ascii_uppercase, choices, strict=False))


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetCard:
    """What a dataset is, for manifests and reports."""

    name: str
    source: str
    """Who made it, and where it is described."""
    licence: str
    metric: str
    """The main metric in words."""


def draw_documents(items: Sequence[Item], n_documents: int | None, seed: int) -> list[Item]:
    """The items of `n_documents` first documents drawn with `seed`; all of them for None."""
    names = sorted({item.document_name for item in items})
    random.Random(seed).shuffle(names)
    kept = set(names[:n_documents])
    return [item for item in items if item.document_name in kept]


def draw_items(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """`limit` items drawn with `seed`, each kind in its share; in their order. All for None.

    With the same seed a smaller draw is part of a larger one, so that a run can be extended."""
    if limit is None or limit >= len(items):
        return list(items)
    by_kind: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        by_kind[item.kind].append(place)
    rng = random.Random(seed)
    ranked: list[tuple[float, float, int]] = []
    for kind in sorted(by_kind):
        places = by_kind[kind]
        rng.shuffle(places)
        ranked += [((n + 0.5) / len(places), rng.random(), p) for n, p in enumerate(places)]
    return [items[place] for place in sorted(place for _, _, place in sorted(ranked)[:limit])]


def check_ids(items: Sequence[Item]) -> None:
    """Raises BadRequest when two items have one id: a run could not tell them apart."""
    twice = [item_id for item_id, n in Counter(item.item_id for item in items).items() if n > 1]
    if twice:
        raise BadRequest(f"Item ids must be unique; {twice[0]!r} stands there more than once.")


def items_digest(items: Sequence[Item]) -> str:
    """SHA-256 of ids, questions and golds in order."""
    whole = [[item.item_id, item.asked, item.gold_answers] for item in items]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
