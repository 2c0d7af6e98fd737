"""Who can do what a question asks: the workers, a cloud model, or nobody here."""

from __future__ import annotations

from collections.abc import Sequence

from minions.documents.model import Document
from minions.errors import BeyondAbilities
from minions.question import Options, Question, StrategyName
from router import Rung
from router.capability import Capability, DocumentFacts, Need, needed_capability

_NO_PICTURES = {
    Capability.VISION: "Only text is read here, and only text is sent to the cloud, so no model "
    "gets to see it. Run text recognition (OCR) on scanned pages first, for example with "
    "ocrmypdf, or ask about the text.",
    Capability.DRAWING: "Answers here are text. Ask for the facts or figures instead, and draw "
    "them with a tool for that.",
}


def facts_of(document: Document) -> DocumentFacts:
    """What the rules of `router.capability` look at."""
    textless = (p.number for p in document.pages if not document.text[p.start : p.end].strip())
    return DocumentFacts(
        name=document.name, n_pages=len(document.pages), textless_pages=frozenset(textless)
    )


def beyond_reading(question: Question, documents: Sequence[Document]) -> Need | None:
    """What the question needs that no worker can do; None for an ordinary question."""
    return needed_capability(question.text, [facts_of(document) for document in documents])


def check_abilities(question: Question, documents: Sequence[Document], *, has_cloud: bool) -> None:
    """Raises BeyondAbilities, before any work, when nobody who may be asked can do it."""
    need = beyond_reading(question, documents)
    if need is None:
        return
    obstacle = _obstacle(need, question.options, has_cloud)
    if obstacle is not None:
        raise BeyondAbilities(
            f"This question needs more than reading: {need.reason} ({need.capability}). {obstacle}"
        )


def _obstacle(need: Need, options: Options, has_cloud: bool) -> str | None:
    """Why nobody can or may do it, and what to do; None when the cloud can and may."""
    if not need.capability.by_text_model:
        return _NO_PICTURES[need.capability]
    if options.strategy is StrategyName.LOCAL or options.rung is Rung.LOCAL:
        return "The workers only find answers in a text. Use --strategy ladder, with a cloud."
    if not has_cloud:
        return (
            "The workers only find answers in a text; a cloud model could do it, and no cloud is "
            "set up: give --cloud-url, or a key in OPENAI_API_KEY."
        )
    if not options.privacy.allows(Rung.DOCUMENT):
        return (
            "A cloud model could do it with the whole document, which the privacy ceiling "
            f"`{options.privacy}` forbids: allow it with --privacy document."
        )
    return None
