"""The worker's side of a plain turn: the job it gets, and its line in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from minions.chat.turn import Turn
from minions.local_call import local_call
from minions.store.model import Store
from workers import ChatJob, ChatResult, Effort, EngineInfo, JobStatus, Sampling, WorkerPool

MAX_ANALYSIS_TOKENS = 1024
CANCELLED = "cancelled"


def chat_job(turn: Turn, run_id: str, worker: EngineInfo) -> ChatJob:
    """The turn as the worker gets it; an effort that it doesn't know becomes one that it does."""
    effort = turn.effort or Effort.LOW
    if effort not in worker.efforts:
        effort = Effort.NONE if Effort.NONE in worker.efforts else worker.efforts[0]
    return ChatJob(
        job_id=f"job_{run_id}",
        messages=turn.messages,
        tools=turn.tools,
        tool_choice=turn.tool_choice,
        effort=effort,
        max_analysis_tokens=min(MAX_ANALYSIS_TOKENS, turn.max_output_tokens),
        sampling=Sampling(
            temperature=turn.temperature or 0.0,
            seed=turn.seed,
            max_output_tokens=turn.max_output_tokens,
        ),
        stop=turn.stop,
    )


async def run_booked(
    job: ChatJob,
    pool: WorkerPool,
    store: Store,
    run_id: str,
    on_text: Callable[[str], None] | None = None,
) -> ChatResult:
    """Run the job and book it, also when the caller leaves meanwhile (Law 2)."""
    try:
        result = await pool.chat(job, on_text)
    except asyncio.CancelledError:
        left = ChatResult(job_id=job.job_id, status=JobStatus.FAILED, error=CANCELLED)
        await store.record_ledger(
            [local_call(left, pool.info, run_id, purpose="chat", outcome=CANCELLED)]
        )
        raise
    await store.record_ledger([local_call(result, pool.info, run_id, purpose="chat")])
    return result
