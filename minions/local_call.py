"""A local model's call as the ledger keeps it."""

from __future__ import annotations

import time

from minions.store.model import LedgerEntry
from workers import ChatResult, EngineInfo, JobResult


def local_call(
    result: JobResult | ChatResult,
    worker: EngineInfo,
    run_id: str,
    *,
    purpose: str,
    outcome: str | None = None,
) -> LedgerEntry:
    """The entry of one job, whatever became of it (Law 2). `outcome` is the job's status unless
    another word is given; usage counts as reported when none is.

    Its price is unknown, not 0: what electricity costs is told apart, where it is configured."""
    usage = result.usage
    return LedgerEntry(
        run_id=run_id,
        kind="local",
        model=worker.model,
        purpose=purpose,
        outcome=outcome or result.status.value,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.prompt_tokens - usage.prefilled_tokens,
        completion_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_nano_usd=None,
        price_snapshot=None,
        usage_reported=outcome is None,
        call_key=result.job_id,
        attempt=1,
        created_at=time.time(),
    )
