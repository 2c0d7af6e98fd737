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


TWICE = "Fee: 5 euro. " + "Nothing else is said here. " * 12 + "Late fee: 5 euro a day."


def touching(piece: str, *, places_of: str) -> bytes | None:
    """As `written`, of a piece of TWICE that has to overlap where `places_of` stands."""
    verbatim, inside = Verbatim(TWICE), b""
    places = verbatim.spans(places_of.encode())
    for byte in f'{piece}"'.encode():
        followed = verbatim.follow(inside, bytes([byte]), places)
        if followed is None:
            return None
        inside = followed.inside
    return inside


@pytest.mark.parametrize(
    ("piece", "answer"),
    [("Fee: 5 euro", "5 euro"), ("5", "5"), ("Late fee: 5 euro a", "5"), ("euro a day.", "5 euro")],
)
def test_a_string_can_be_held_to_a_place(piece: str, answer: str) -> None:
    assert touching(piece, places_of=answer) == piece.encode()


@pytest.mark.parametrize(
    ("piece", "answer"),
    [("Nothing else", "5 euro"), ("Late fee", "5"), ("Fee", "5"), ("a day", "5"), ("", "5")],
)
def test_what_does_not_touch_the_place_can_not_be_closed(piece: str, answer: str) -> None:
    assert touching(piece, places_of=answer) is None


def test_a_whole_string_stands_where_words_begin_and_end() -> None:
    assert Verbatim("on one, done on").spans(b"on") == [(0, 2), (13, 15)]
    assert Verbatim("on").spans(b"") == []


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
