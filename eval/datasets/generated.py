"""Generated documents: long ones, made up at random, that no model can have seen.

Each is some dozens of sections by the generator that nano is taught with
(`workers.nano.generated`), in genres and with names that it was never trained on. A question asks
for a fact of one section, or for a near miss of one (another name, attribute or year), which the
document does not answer. The same seed gives the same documents. Licence: Apache-2.0, as the
project. An item looks like this:

    Item(item_id="generated-3::1", documents=(ItemDocument(name="generated-3.txt", text="…"),),
         question="State the operator of Trakol-Max.", gold_answers=("Felix Frurgrur",),
         kind="stated",
         evidence=(GoldEvidence(text="Trakol-Max's operator is Felix Frurgrur", start=7451,
                                end=7490),))
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from eval.items import DatasetCard, GoldEvidence, Item, ItemDocument
from workers.nano.examples import Example
from workers.nano.generated import generated_example

CARD = DatasetCard(
    name="generated",
    source="made by workers.nano.generated, genres and names held out from training",
    licence="Apache-2.0",
    metric="token-F1 with the stated value; an abstention is right on near misses",
)
SEED = 10**10
"""Apart from the seeds of training and of `minions eval nano`."""
GENRES = "standard"
N_DOCUMENTS = 30
N_SECTIONS = 30
SECTION_WORDS = 130
QUESTIONS_PER_DOCUMENT = 12
ABSENT_SHARE = 0.35


def load(n_documents: int = N_DOCUMENTS, first: int = 0) -> list[Item]:
    """Every question of `n_documents` documents from number `first` on, which other numbers share
    nothing with. Nothing is read from disk."""
    return [item for number in range(first, first + n_documents) for item in _items(number)]


def _items(number: int) -> Iterator[Item]:
    sections = [_section(number, place) for place in range(N_SECTIONS)]
    starts = list(itertools.accumulate((len(s.text) + 2 for s in sections), initial=0))
    text = "\n\n".join(section.text for section in sections)
    document = ItemDocument(name=f"generated-{number}.txt", text=text)
    asked = [
        (place, question)
        for place, section in enumerate(sections)
        for question in range(len(section.asked))
    ]
    random.Random(SEED + number).shuffle(asked)
    for nth, (place, question) in enumerate(asked[:QUESTIONS_PER_DOCUMENT]):
        item_id = f"generated-{number}::{nth}"
        yield _item(item_id, document, sections[place], question, starts[place])


def _section(number: int, place: int) -> Example:
    return generated_example(
        SEED + number * N_SECTIONS + place, GENRES, SECTION_WORDS, 1, ABSENT_SHARE
    )


def _item(
    item_id: str, document: ItemDocument, section: Example, question: int, offset: int
) -> Item:
    asked = section.asked[question]
    value = section.value(asked)
    evidence: tuple[GoldEvidence, ...] = ()
    if asked.quote_span is not None:
        start, end = asked.quote_span
        evidence = (
            GoldEvidence(text=section.text[start:end], start=offset + start, end=offset + end),
        )
    return Item(
        item_id=item_id,
        documents=(document,),
        question=asked.question,
        gold_answers=() if value is None else (value,),
        kind="near miss" if value is None else "stated",
        evidence=evidence,
    )
