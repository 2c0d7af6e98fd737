"""The router's view of what the workers found."""

from __future__ import annotations

from minions.evidence.model import Evidence
from minions.reading import Reading
from router import Signals, agreement_of, is_hedged


def signals_of(evidence: Evidence, reading: Reading) -> Signals:
    """The signals of the draft that `evidence` makes of what was read."""
    draft = evidence.draft
    claims = draft.claims if draft else ()
    margins = [claim.margin for claim in claims if claim.margin is not None]
    return Signals(
        answered=draft is not None,
        verified=bool(draft and draft.citations),
        answer_in_quote=any(claim.answer_in_quote for claim in claims),
        agreement=agreement_of(len(claims), evidence.n_answered),
        margin=max(margins, default=None),
        coverage=reading.coverage,
        n_answered=evidence.n_answered,
        n_abstained=evidence.n_abstained,
        n_failed=evidence.n_failed,
        hedged=bool(draft and is_hedged(draft.answer)),
    )
