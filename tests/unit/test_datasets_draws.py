"""Drawing items and documents: seeded, in proportion, and extendable."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eval.items import Item, ItemDocument, draw_documents, draw_items, items_digest


def items(kinds: str) -> list[Item]:
    """One item per letter, which is its kind; two to a document."""
    return [
        Item(
            item_id=str(n),
            documents=(ItemDocument(name=f"d{n // 2}", text="x"),),
            question="?",
            gold_answers=("x",),
            kind=kind,
        )
        for n, kind in enumerate(kinds)
    ]


@given(
    kinds=st.text("abc", min_size=1, max_size=60),
    limit=st.integers(1, 60),
    more=st.integers(0, 60),
    seed=st.integers(0, 3),
)
def test_a_draw_is_stratified_ordered_and_part_of_a_larger_one(
    kinds: str, limit: int, more: int, seed: int
) -> None:
    whole = items(kinds)
    drawn = draw_items(whole, limit, seed)
    assert len(drawn) == min(limit, len(whole))
    assert drawn == [item for item in whole if item in drawn]
    larger = draw_items(whole, limit + more, seed)
    assert {item.item_id for item in drawn} <= {item.item_id for item in larger}
    total, found = Counter(kinds), Counter(item.kind for item in drawn)
    for kind, n in total.items():
        assert abs(found[kind] - len(drawn) * n / len(whole)) <= 1.5


def test_another_seed_draws_others() -> None:
    whole = items("a" * 40)
    draws = {tuple(i.item_id for i in draw_items(whole, 10, seed)) for seed in range(5)}
    assert len(draws) == 5


def test_documents_are_drawn_whole() -> None:
    whole = items("abcdefgh")
    kept = draw_documents(whole, 2, seed=1)
    assert len(kept) == 4 and len({item.document_name for item in kept}) == 2
    assert draw_documents(whole, None, seed=1) == whole
    assert draw_documents(random.Random(0).sample(whole, 8), 2, 1) != []


def test_the_digest_tells_other_questions_apart() -> None:
    assert items_digest(items("ab")) == items_digest(items("ab"))
    assert items_digest(items("ab")) != items_digest(items("abc"))
