"""Words as evidence sees them: what carries meaning and what does not. English only."""

from __future__ import annotations

import re

from minions.evidence.folding import fold


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _listed("a an the")
NEGATIONS = _listed(
    "no not none never neither nor nothing nobody nowhere without cannot non except unless "
    "isnt arent wasnt werent dont doesnt didnt wont wouldnt shant shouldnt cant couldnt mustnt "
    "hasnt havent hadnt"
)
"""As they stand after folding, which drops apostrophes."""
TURNING_WORDS = NEGATIONS | _listed(
    "yes north south east west northern southern eastern western new former minimum maximum gross "
    "net before after excluding including less more least most only "
    "increase increased increases decrease decreased decreases"
)
"""Words that change the meaning of those beside them: `Virginia` is not `West Virginia`."""
STOP_WORDS = (
    ARTICLES
    | NEGATIONS
    | _listed(
        "i me my we our us you your he him his she her it its they them their this that these "
        "those which who whom whose what when where how why there here "
        "and or but if then than so as because while until about of at by for with between into "
        "through during before after above below to from up down in out on off over under again "
        "is are was were be been being am have has had having do does did doing will would shall "
        "should can could may might must any all each every both few more most other some such "
        "only own same too very just also per via s t"
    )
)

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> tuple[str, ...]:
    """The words and digit groups of `text`, folded and in lower case."""
    return tuple(_WORD.findall(fold(text).lowered))


def content_words(found: tuple[str, ...]) -> frozenset[str]:
    """Those that are no stop words; negations count as content."""
    return frozenset(word for word in found if word not in STOP_WORDS or word in NEGATIONS)
