"""The strategy `cloud`: the whole document, one call. The baseline of every receipt."""

from __future__ import annotations

from minions.errors import BadRequest, BudgetExceeded, CeilingExceeded, CloudProtocolError
from minions.events import RungChosen
from minions.offers import PreparedRung
from minions.question import JobCounts, Reply
from minions.strategies.ladder import ask_cloud
from minions.strategies.session import Session
from router import Rung, closed_because


async def ask_cloud_only(session: Session) -> Reply:
    """Send everything, once. Raises before anything leaves when a wish forbids it."""
    with session.trace.step("offers", cloud=session.terms.model):
        prepared = session.document_rung()
        _refuse_when_closed(session, prepared)
    session.observe(RungChosen(rung=Rung.DOCUMENT, reason="strategy `cloud`"))
    standing = await ask_cloud(session, prepared)
    if standing is None:
        raise CloudProtocolError(session.warnings[-1])
    return await session.reply(
        standing,
        reason="strategy `cloud` sends the whole document",
        coverage=1.0,
        jobs=JobCounts(),
        rungs=(prepared,),
        document_rung=prepared,
    )


def _refuse_when_closed(session: Session, prepared: PreparedRung) -> None:
    why = closed_because(prepared.offer, session.wishes, session.budget.spent_usd)
    if why is None:
        return
    message = f"Strategy `cloud` needs the rung `document`: {why}. Nothing was sent."
    if not session.wishes.ceiling.allows(Rung.DOCUMENT):
        raise CeilingExceeded(message)
    if prepared.offer.impossible is not None:
        raise BadRequest(message)
    raise BudgetExceeded(message)
