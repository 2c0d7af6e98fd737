"""Strings held to a source: what may follow, where words and characters begin and end."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.verbatim import Verbatim, closing_quote

SOURCE = 'The fee of the "Buyer" is $5 million,\n\n payable in München within 30 days.'


def written(source: str, string: str, n_bytes: int) -> bytes | None:
    """The string written in tokens of `n_bytes` and closed; None when it was refused."""
    verbatim, inside = Verbatim(source), b""
    raw = json.dumps(string, ensure_ascii=False)[1:].encode()
    for start in range(0, len(raw), n_bytes):
        followed = verbatim.follow(inside, raw[start : start + n_bytes])
        if followed is None:
            return None
        inside = followed.inside
    return inside


@pytest.mark.parametrize("n_bytes", [1, 3, 100])
@pytest.mark.parametrize(
    "piece",
    ["The fee", '"Buyer"', "$5 million", "million, payable", "München within 30 days.", "30"],
)
def test_pieces_of_the_source_can_be_written(piece: str, n_bytes: int) -> None:
    shown = json.dumps(piece, ensure_ascii=False)[1:-1]
    assert written(SOURCE, piece, n_bytes) == shown.encode()


@pytest.mark.parametrize("n_bytes", [1, 3, 100])
@pytest.mark.parametrize(
    "other",
    ["The Buyer", "the fee", "million,\n\n payable", "illion", "mill", "Münch", "fee  of", "$6"],
)
def test_nothing_else_can(other: str, n_bytes: int) -> None:
    assert written(SOURCE, other, n_bytes) is None


def test_a_character_is_not_cut() -> None:
    verbatim = Verbatim("ü")
    assert verbatim.follow(b"", b"\xc3") is not None
    assert verbatim.follow(b"\xc3", b'"') is None
    assert verbatim.follow(b"\xc3", b'\xbc"') is not None


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("$5 million", 'Buyer" is $5 million, payable', True),
        ("million, payable", "is  $5 million", True),
        ("30 days", "The fee", False),
        ("The fee", "not there", False),
        ("", "The fee", False),
    ],
)
def test_pieces_share_a_place_or_do_not(one: str, other: str, share: bool) -> None:
    assert Verbatim(SOURCE).share_a_place(one, other) is share


def test_a_blank_source_says_so() -> None:
    assert Verbatim(" \n\t").is_blank
    assert not Verbatim("a").is_blank


def test_the_closing_quote_is_not_an_escaped_one() -> None:
    assert closing_quote(b"", b'a\\"b", ') == 4
    assert closing_quote(b"a\\", b'"b') == -1
    assert closing_quote(b"a\\\\", b'"b') == 0


@settings(deadline=None, max_examples=50)
@given(source=st.text(min_size=1, max_size=40), data=st.data())
def test_there_is_always_a_way_on(source: str, data: st.DataObject) -> None:
    """From any piece that was let through, the next byte or the closing quote is let through."""
    verbatim = Verbatim(source)
    inside, tokens = b"", [bytes([b]) for b in range(256)]
    for _ in range(12):
        ways = [t for t in tokens if (f := verbatim.follow(inside, t)) and f.closed_at < 0]
        closes = verbatim.follow(inside, b'"') is not None
        assert ways or closes
        if not ways:
            break
        followed = verbatim.follow(inside, data.draw(st.sampled_from(ways)))
        assert followed is not None
        inside = followed.inside
