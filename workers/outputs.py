"""What every pool makes of its engines' outputs: results of jobs, and the end of a chat."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from workers.chat import ChatDelta, ChatResult
from workers.jobs import Job, JobResult
from workers.seams import Outcome, TextSink

Outputs = AsyncGenerator[Outcome | ChatDelta, None]
"""All that comes of some jobs: pieces of text, and one outcome per job."""


def require_unique_ids(jobs: Sequence[Job]) -> None:
    """Raises ValueError, naming one of them, when two jobs of a run have the same id."""
    doubled = [job_id for job_id, n in Counter(j.job_id for j in jobs).items() if n > 1]
    if doubled:
        raise ValueError(
            f"job ids must be unique within a run: {doubled[0]!r} and "
            f"{len(doubled) - 1} other ids are used more than once"
        )


async def until_all_ended(queue: asyncio.Queue[Outcome | ChatDelta], n_jobs: int) -> Outputs:
    """What arrives in the queue, until `n_jobs` outcomes have."""
    while n_jobs:
        output = await queue.get()
        n_jobs -= not isinstance(output, ChatDelta)
        yield output


async def results_of(outputs: Outputs) -> AsyncGenerator[JobResult, None]:
    """The results alone, in completion order. Closes `outputs` when it is closed itself."""
    async with aclosing(outputs) as arriving:
        async for output in arriving:
            if isinstance(output, JobResult):
                yield output


async def result_of_chat(outputs: Outputs, on_text: TextSink | None) -> ChatResult:
    """The chat's result, after each piece of its text has gone to `on_text`."""
    async with aclosing(outputs) as arriving:
        async for output in arriving:
            if isinstance(output, ChatResult):
                return output
            if isinstance(output, ChatDelta) and on_text is not None:
                on_text(output.text)
    raise AssertionError("a chat's outputs end with its result")
