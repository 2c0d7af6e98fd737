"""Words as the ranker compares them: in lower case, plurals folded, English only.

Built on the store's words, so that a number is one word (`1,577.00`) in both.
"""

from __future__ import annotations

import functools

from minions.store.words import STOP_WORDS, words

ASKING_WORDS = frozenset(
    "please answer question tell explain describe discuss state summarize summarise summary list "
    "give according based regarding concerning".split()
)
"""Words of asking, not of what is asked for."""

_KEPT_ENDINGS = ("ss", "us", "is", "as")


def terms(text: str) -> list[str]:
    """The text's words in order, each folded to its singular form."""
    return [singular(word) for word in words(text)]


def telling_terms(text: str) -> list[str]:
    """The distinct terms that say what is looked for; all of them when none does."""
    found = words(text)
    telling = [w for w in found if w not in STOP_WORDS and w not in ASKING_WORDS and len(w) > 1]
    return list(dict.fromkeys(map(singular, telling or found)))


@functools.lru_cache(maxsize=65_536)
def singular(word: str) -> str:
    """`sales` -> `sale`, `inventories` -> `inventory`; after Harman's S-stemmer (JASIS 1991)."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(_KEPT_ENDINGS):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]
