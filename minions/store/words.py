"""Words of texts and queries, for full-text search.

Both stores share this file, so that a query means the same words in each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_QUERY_WORDS = 256
"""Distinct words of a query that are searched for; the first ones. Each costs a posting list."""

_STOP_WORDS = """
    a about above after again against all also am an and any are as at be because been before
    being below between both but by can could did do does doing down during each few for from
    further had has have having he her here hers him his how i if in into is it its just me more
    most my no nor not now of off on once only or other our ours out over own s same she should so
    some such t than that the their theirs them then there these they this those through to too
    under until up very was we were what when where which while who whom whose why will with would
    you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+")
"""A number with its separators (1,577.00), or a run of letters and digits."""
_SOFT_HYPHEN = "\u00ad"


def searchable(text: str) -> str:
    """`text` as it is indexed: ligatures and full-width forms resolved (PDFs are full of them),
    soft hyphens dropped, and nothing in it that a database can't hold as text."""
    plain = unicodedata.normalize("NFKC", text).replace(_SOFT_HYPHEN, "").replace("\0", " ")
    return plain.encode(errors="replace").decode()


def words(text: str) -> list[str]:
    """The words of a text in order, in lower case."""
    return _WORD.findall(searchable(text).lower())


def folded(tokens: Sequence[str]) -> list[str]:
    """Words without diacritics, as SQLite's index sees them."""
    return [
        "".join(c for c in unicodedata.normalize("NFKD", token) if not unicodedata.combining(c))
        for token in tokens
    ]


def query_words(query: str) -> list[str]:
    """The distinct words to search for: no syntax is left, and no stop words if others remain."""
    distinct = list(dict.fromkeys(words(query)))
    telling = [word for word in distinct if word not in STOP_WORDS]
    return (telling or distinct)[:MAX_QUERY_WORDS]
