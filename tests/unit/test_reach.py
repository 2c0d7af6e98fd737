"""Reach: how likely the answer's place is in what was read so far."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router import reach

counts = st.integers(min_value=0, max_value=2000)


@given(counts, counts)
def test_it_is_a_chance_and_certain_only_at_the_end(n_read: int, n_chunks: int) -> None:
    chance = reach(n_read, n_chunks)
    assert 0 <= chance <= 1
    assert (chance == 1) == (n_read >= n_chunks)


@given(counts, counts, st.integers(min_value=1, max_value=2000))
def test_reading_on_never_lowers_it(one: int, more: int, n_chunks: int) -> None:
    assert reach(min(one, more), n_chunks) <= reach(max(one, more), n_chunks)


def test_nothing_read_is_nothing_reached() -> None:
    assert reach(0, 300) == 0


def test_between_the_measured_depths_it_is_a_straight_line() -> None:
    assert reach(20, 300) == (reach(16, 300) + reach(24, 300)) / 2
