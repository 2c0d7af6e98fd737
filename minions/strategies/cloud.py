"""The strategy `cloud`: the whole document, one call. The baseline of every receipt."""

from __future__ import annotations

from minions.errors import CloudProtocolError
from minions.events import RungChosen
from minions.question import JobCounts, Reply
from minions.strategies.ladder import ask_cloud
from minions.strategies.session import Session
from router import Rung


async def ask_cloud_only(
    session: Session, reason: str = "strategy `cloud` sends the whole document"
) -> Reply:
    """Send everything, once. Raises before anything leaves when a wish forbids it."""
    with session.trace.step("offers", cloud=session.terms.model, reason=reason):
        prepared = session.document_rung()
        session.refuse_when_closed(prepared)
    session.observe(RungChosen(rung=Rung.DOCUMENT, reason=reason))
    standing = await ask_cloud(session, prepared)
    if standing is None:
        raise CloudProtocolError(session.warnings[-1])
    return await session.reply(
        standing,
        reason=reason,
        coverage=1.0,
        jobs=JobCounts(),
        rungs=(prepared,),
        document_rung=prepared,
    )
