"""Every dataset that `minions eval run` knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.datasets import (
    covidqa,
    cuad,
    financebench,
    generated,
    longhealth,
    own,
    qasper,
    qmsum,
    tatqa,
)
from eval.items import DatasetCard, DatasetName, Item, check_ids, draw_documents, draw_items
from minions.errors import BadRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A dataset with the items that were drawn from it."""

    card: DatasetCard
    items: tuple[Item, ...]


_Loader = Callable[[Path], list[Item]]
_READ: Mapping[DatasetName, tuple[DatasetCard, _Loader]] = {
    DatasetName.CUAD: (cuad.CARD, cuad.load),
    DatasetName.QMSUM: (qmsum.CARD, qmsum.load),
    DatasetName.COVIDQA: (covidqa.CARD, covidqa.load),
    DatasetName.TATQA: (tatqa.CARD, tatqa.load),
    DatasetName.FINANCEBENCH: (financebench.CARD, financebench.load),
    DatasetName.LONGHEALTH: (longhealth.CARD, longhealth.load),
    DatasetName.QASPER: (qasper.CARD, qasper.load),
    DatasetName.OWN: (own.CARD, own.load),
}


def load_dataset(
    name: DatasetName,
    path: Path | None,
    *,
    n_documents: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """The items of a dataset: of `n_documents` documents drawn with `seed`, and of those `limit`
    items, each kind in its share. None for all.

    Raises NotFound and BadRequest for a path that is missing or not in the dataset's format."""
    card, items = _items(name, path)
    check_ids(items)
    chosen = draw_items(draw_documents(items, n_documents, seed), limit, seed)
    if not chosen:
        raise BadRequest(f"There are no questions of {name} in {path}.")
    return Dataset(card=card, items=tuple(chosen))


def _items(name: DatasetName, path: Path | None) -> tuple[DatasetCard, list[Item]]:
    if name is DatasetName.GENERATED:
        if path is not None:
            raise BadRequest("Generated documents are made, not read: leave out --data.")
        return generated.CARD, generated.load()
    if path is None:
        raise BadRequest(f"Say where {name} is: --data FILE_OR_FOLDER.")
    card, load = _READ[name]
    return card, load(path)
