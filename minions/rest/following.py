"""A question that goes on from another: what it leans on comes along, as far as it may."""

from __future__ import annotations

from minions.chat.conversation import Said, question_of
from minions.question import Options, Question
from minions.store.errors import unknown
from minions.store.model import RunRecord
from minions.store.service import ServiceStore
from workers import Message, Role


async def own_run(store: ServiceStore, owner: str, run_id: str) -> RunRecord:
    """A run of this owner. Raises NotFound, also for what belongs to others."""
    run = await store.get_run(run_id)
    if run.owner != owner:
        raise unknown("run", run_id)
    return run


def following(question: Question, earlier: RunRecord) -> str:
    """The question's text with what it leans on of an earlier one. The answer to that one stays out
    where it was to stay nearer to this machine than this question does (Law 5)."""
    before = Question.from_json(earlier.question)
    said = [Message(role=Role.USER, content=before.asked or before.text)]
    answer = (earlier.reply or {}).get("answer")
    if answer and _may_see(question.options, before.options):
        said.append(Message(role=Role.ASSISTANT, content=answer))
    said.append(Message(role=Role.USER, content=question.text))
    return question_of([Said(message=message) for message in said])


def _may_see(options: Options, earlier: Options) -> bool:
    """Whether all that these options let out was let out by the earlier ones too."""
    if not options.may_ask_cloud:
        return True
    return earlier.may_ask_cloud and earlier.privacy.allows(options.privacy)
