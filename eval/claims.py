"""Which of the workers' claims come from where the gold evidence stands, and a profile of that.

The rung `evidence` sends the claims that the relevance profile takes for likely. Labelled runs of
items with gold evidence teach the profile to tell them apart: the trace has every claim's features,
the row says which claims are gold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.citations import citation_correct
from eval.items import GoldEvidence
from eval.rows import read_run
from minions.documents import Document
from minions.errors import BadRequest
from minions.evidence.features import NAMES
from minions.evidence.relevance import Profile

MIN_GOLD = 20
"""Claims from gold evidence below which nothing is fitted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledClaim:
    """One worker's claim in a recorded run."""

    features: Mapping[str, float]
    gold: bool
    group: str
    """Its document: never on both sides of a fit."""


def gold_claims(
    trace: Mapping[str, Any], evidence: Sequence[GoldEvidence], documents: Mapping[str, Document]
) -> tuple[str, ...]:
    """Ids of the jobs whose claim stands in the gold evidence: its quote, or its chunk where the
    quote was not found. `documents` are the item's by name."""
    by_id = {document.document_id: document for document in documents.values()}
    return tuple(
        claim["job_id"]
        for claim in _claims(trace)
        if citation_correct([_place(claim, by_id)], evidence, documents)
    )


def _claims(trace: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for step in trace["steps"]:
        yield from step["facts"].get("claims", ())


def _place(claim: Mapping[str, Any], documents: Mapping[str, Document]) -> dict[str, Any]:
    """Where a claim stands, as a citation."""
    document = documents[claim["document_id"]]
    start, end = claim["quote"] or claim["chunk"]
    return {
        "document_id": document.document_id,
        "start": start,
        "end": end,
        "page": document.page_at(start),
        "quote": document.text[start:end],
    }


def labelled_claims(run: Path) -> list[LabelledClaim]:
    """Every claim of a run that is known to be gold or not, each item's once. Raises NotFound and
    BadRequest as `read_run`."""
    folder = read_run(run)
    rows = {row.item_id: row for row in folder.rows if row.gold_claims is not None}
    return [
        LabelledClaim(
            features=claim["features"],
            gold=claim["job_id"] in (row.gold_claims or ()),
            group=row.document or row.item_id,
        )
        for row in rows.values()
        for claim in _claims(folder.trace(row) or {"steps": ()})
    ]


def fit_on_runs(runs: Sequence[Path]) -> Profile:
    """A relevance profile of recorded runs. Raises BadRequest when they hold too little."""
    from eval.evidence import fit_relevance  # scikit-learn takes a second to load

    claims = [claim for run in runs for claim in labelled_claims(run)]
    n_gold = sum(claim.gold for claim in claims)
    if n_gold < MIN_GOLD:
        raise BadRequest(
            f"{n_gold} of {len(claims)} claims in {', '.join(map(str, runs))} come from gold "
            f"evidence, at least {MIN_GOLD} are needed: run strategy `local` on more questions of "
            "a dataset that has gold evidence."
        )
    return fit_relevance(
        np.array([[claim.features[name] for name in NAMES] for claim in claims]),
        np.array([claim.gold for claim in claims], dtype=np.bool_),
        np.array([claim.group for claim in claims]),
        source=f"{len(claims)} claims in recorded runs, {n_gold} of them from gold evidence",
    )
