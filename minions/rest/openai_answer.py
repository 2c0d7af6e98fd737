"""How a turn of either OpenAI API gets its answer: by rule, by a model, or from documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from minions.chat.conversation import Attachment, Said, question_of, set_long_texts_apart
from minions.chat.housekeeping import housekeeping_reply
from minions.chat.turn import DEFAULT_OUTPUT_TOKENS, ChatReply, TokensUsed, Turn
from minions.cloud.tokens import count_tokens
from minions.errors import BadRequest, Cancelled, DocumentTooLarge, NotFound
from minions.question import Question
from minions.rest.bodies import MAX_DOCUMENTS, MAX_QUESTION_CHARS
from minions.rest.office import Office
from minions.rest.openai_wishes import worker_name
from minions.store.model import RunRecord, RunStatus
from minions.store.rules import DOCUMENT_DELETED, UNFINISHED
from workers import Role

NO_ANSWER = "The documents don't answer this."

Say = Callable[[str], None]
Work = Callable[[Say], Awaitable[ChatReply]]
"""Answers; the pieces that it says are, joined, the answer's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request of either API, in our words."""

    said: tuple[Said, ...]
    turn: Turn
    """All but its messages."""
    documents: tuple[str, ...] = ()
    """Ids that were named beside the messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A request that is fit to be answered."""

    said: tuple[Said, ...]
    """The conversation, with every attachment in the store."""
    work: Work
    documents: tuple[str, ...] = ()
    """What it is answered from."""


async def prepare(office: Office, asked: Asked, run_id: str | None = None) -> Prepared:
    """Read the files, accept the question. Raises whatever is wrong with the request, so that its
    status tells it, also where the answer is to be streamed. With a `run_id` the same request is
    answered once, however often it comes."""
    done = _housekeeping(asked)
    if done is not None:
        return Prepared(said=asked.said, work=partial(_say_at_once, done))
    limit = office.app.settings.chat_document_tokens
    said = await asyncio.to_thread(set_long_texts_apart, asked.said, limit, count_tokens)
    kept = tuple([await _keep(office, one, asked.turn.owner) for one in said])
    attached = (file.document_id for one in kept for file in one.attachments)
    ids = tuple(dict.fromkeys([*asked.documents, *(i for i in attached if i is not None)]))
    turn = replace(asked.turn, messages=tuple(one.message for one in kept))
    if not ids:
        return Prepared(said=kept, work=partial(_converse, office, turn, run_id))
    record = await _accept(office, turn, kept, ids, run_id)
    work = partial(_ask_documents, office, turn, record)
    return Prepared(said=kept, documents=ids, work=work)


def _housekeeping(asked: Asked) -> str | None:
    last = asked.said[-1]
    if last.message.role is not Role.USER or any(one.attachments for one in asked.said):
        return None
    return housekeeping_reply(last.message.content)


async def _say_at_once(text: str, say: Say) -> ChatReply:
    say(text)
    return ChatReply(run_id=None, model="rules", text=text, finish_reason="stop")


async def _converse(office: Office, turn: Turn, run_id: str | None, say: Say) -> ChatReply:
    if run_id is None:
        return await _answer(office, turn, None, say)
    # Who sends the same request meanwhile waits for its answer, also at another process.
    async with office.app.desk.locks(run_id):
        return await _answer(office, turn, run_id, say)


async def _answer(office: Office, turn: Turn, run_id: str | None, say: Say) -> ChatReply:
    chat = office.app.chat
    with office.room():
        record = await chat.accept(turn, run_id)
    if record.status is RunStatus.FINISHED:
        reply = await chat.kept(record)
        say(reply.text)
        return reply
    async with office.attending(record.run_id):
        return await chat.work(record, turn, say)


async def _keep(office: Office, said: Said, owner: str) -> Said:
    """The message with its files in the store."""
    files = [await _kept_file(office, file, owner) for file in said.attachments]
    return replace(said, attachments=tuple(files))


async def _kept_file(office: Office, file: Attachment, owner: str) -> Attachment:
    if file.data is None:
        return file
    limit = office.app.limits.max_bytes
    if len(file.data) > limit:
        raise DocumentTooLarge(
            f"{file.name} has {len(file.data):,} bytes; the limit is {limit:,}. Split the file."
        )
    document = await office.app.add_document(file.data, file.name, owner)
    return Attachment(name=file.name, document_id=document.document_id)


async def _accept(
    office: Office,
    turn: Turn,
    said: Sequence[Said],
    document_ids: tuple[str, ...],
    run_id: str | None,
) -> RunRecord:
    """The run of a question about documents. Raises BadRequest for what can't be one."""
    if turn.tool_choice not in ("auto", "none"):
        raise BadRequest(
            "A question about documents is answered from them: tool_choice can't demand a tool. "
            "Use auto or none, or leave the documents out."
        )
    if len(document_ids) > MAX_DOCUMENTS:
        raise BadRequest(
            f"The conversation has {len(document_ids)} documents; at most {MAX_DOCUMENTS} can be "
            "asked at once."
        )
    text = question_of(said)
    if len(text) > MAX_QUESTION_CHARS:
        raise BadRequest(
            f"The question has {len(text):,} characters; the limit is {MAX_QUESTION_CHARS:,}."
        )
    question = Question(text=text, document_ids=document_ids, options=turn.options)
    with office.room():
        record = await office.app.desk.accept(question, turn.owner, run_id)
        record = await _begun_again(office, record)
        if record.status in UNFINISHED:
            office.start(record)
    return record


async def _begun_again(office: Office, record: RunRecord) -> RunRecord:
    """A question that failed, or was given up with its client, and now comes once more."""
    if record.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        return record
    await office.app.store.update_run(record.run_id, RunStatus.QUEUED)
    return await office.app.store.get_run(record.run_id)


async def _ask_documents(office: Office, turn: Turn, record: RunRecord, say: Say) -> ChatReply:
    if record.status in UNFINISHED:
        async with office.followed(record.run_id):
            await asyncio.shield(office.start(record))
    store = office.app.store
    run = await store.get_run(record.run_id)
    if run.status is not RunStatus.FINISHED or run.reply is None:
        raise Cancelled(f"Question {run.run_id} was {run.status}, not answered.")
    if DOCUMENT_DELETED["message"] in run.reply["warnings"]:
        raise NotFound("A document of this question was deleted, and the answer with it.")
    reply = {**run.reply, "warnings": [*run.reply["warnings"], *_without_effect(turn)]}
    text = reply["answer"] or NO_ANSWER
    say(text)
    is_local = reply["rung"] == "local"
    desk = office.app.desk
    return ChatReply(
        run_id=run.run_id,
        model=worker_name(desk.worker_name) if is_local else desk.terms.model,
        text=text,
        finish_reason="stop",
        usage=TokensUsed.of(await store.ledger(run.run_id)),
        reply=reply,
    )


def _without_effect(turn: Turn) -> list[str]:
    """Wishes that a question about documents can't follow: said, not ignored."""
    given = {
        "temperature": turn.temperature is not None,
        "seed": turn.seed != 0,
        "stop": bool(turn.stop),
        "the cap on output tokens": turn.max_output_tokens != DEFAULT_OUTPUT_TOKENS,
        "tools": bool(turn.tools),
    }
    names = [name for name, is_given in given.items() if is_given]
    if not names:
        return []
    return [f"Answers from documents are not changed by: {', '.join(names)}."]
