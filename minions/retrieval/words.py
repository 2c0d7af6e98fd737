"""Words and phrases as the ranker compares them. English only.

Built on the store's words, so that a number is one word (`1,577.00`) in both.
"""

from __future__ import annotations

import functools
import re

from minions.store.words import searchable, words

__all__ = ["folded", "singular", "words"]

_NOT_WORD = re.compile(r"[^a-z0-9]+")
_APOSTROPHE = re.compile(r"['’`]")
_NO_PLURAL = ("ss", "us", "is", "as")
_LONG_PLURAL = ("sses", "xes", "ches", "shes")


def folded(text: str) -> str:
    """In lower case, with one space for whatever is no letter or digit: `SG&A` -> `sg a`."""
    return _NOT_WORD.sub(" ", _APOSTROPHE.sub("", searchable(text).lower())).strip()


@functools.lru_cache(maxsize=65_536)
def singular(word: str) -> str:
    """`sales` -> `sale`, `inventories` -> `inventory`; after Harman's S-stemmer (JASIS 1991)."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(_NO_PLURAL):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_LONG_PLURAL) else word[:-1]
