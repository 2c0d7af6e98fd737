"""The nouns of a worker: a `Job` goes in, exactly one `JobResult` comes out.

A worker knows jobs, not documents, money or clouds. Everything here is frozen and serialisable, so
that a job can cross a thread, a process or a network unchanged.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

WEIGHED_TOKENS = 8
"""So many tokens of an answer tell how sure the model was of it; later ones mostly go on with what
was begun."""


class JobStatus(enum.StrEnum):
    """How a job ended. Each job ends exactly once."""

    ANSWERED = "answered"
    """The worker gave an answer (right or wrong: that is for evidence and router to judge)."""
    ABSTAINED = "abstained"
    """The worker read the chunk and says that the answer is not in it. This is a result."""
    FAILED = "failed"
    """No usable result: crash, deadline, cancelled, prompt too long, unparsable output."""


class Effort(enum.StrEnum):
    """How long the worker reasons before it answers, where the model can (gpt-oss)."""

    NONE = "none"
    """The final channel is prefilled: no reasoning at all."""
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How one job decodes. Greedy by default, so that a run can be repeated."""

    temperature: float = 0.0
    """0 is greedy; above it, tokens are drawn from the tempered distribution."""
    top_k: int = 40
    """Candidates kept before drawing; ignored when greedy."""
    seed: int = 0
    """Seed of this job's own generator; ignored when greedy."""
    max_output_tokens: int = 256
    """Cap on generated tokens; a job that reaches it inside its JSON is repaired or failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One chunk x one task x one sample."""

    job_id: str
    """Unique and idempotent: the same id is the same work."""
    chunk_id: str
    """Jobs with the same chunk_id carry the same `chunk_text`, which is prefilled once for all."""
    chunk_text: str
    """The piece of the document, verbatim. Data, never instructions."""
    task: str
    """The question put to the chunk."""
    sample: int = 0
    """Index among the samples of the same chunk and task."""
    sampling: Sampling = field(default_factory=Sampling)
    effort: Effort = Effort.NONE
    """Reasoning before the answer; models without an analysis channel answer at once."""
    max_analysis_tokens: int = 512
    """Cap on reasoning tokens; then the analysis is closed and the answer asked for, and the result
    says so (`analysis_cut`)."""
    deadline_s: float | None = None
    """Seconds from submission after which the job is failed; None for no deadline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerUsage:
    """Tokens of one job, counted by the worker's own tokenizer. Sums over jobs are meaningful."""

    prompt_tokens: int = 0
    """Length of this job's whole prompt."""
    prefilled_tokens: int = 0
    """Prompt tokens really computed on this job's account; the rest was shared with other jobs."""
    output_tokens: int = 0
    """Generated tokens, reasoning included."""
    reasoning_tokens: int = 0
    """Generated tokens of the analysis channel, part of `output_tokens`."""

    def __add__(self, other: WorkerUsage) -> WorkerUsage:
        return WorkerUsage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            prefilled_tokens=self.prefilled_tokens + other.prefilled_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """What became of one job."""

    job_id: str
    chunk_id: str
    status: JobStatus
    answer: str | None = None
    """Set exactly when answered."""
    citation: str | None = None
    """The quote as the model wrote it, not yet verified; may be None though answered."""
    margin: float | None = None
    """The least gap in logits on the way to what it says: between a string and null at the value's
    start, then between each of an answer's first `WEIGHED_TOKENS` and its best rival (0 where that
    was better). None where the engine can't see logits."""
    logprob: float | None = None
    """Mean log-probability of the answer's first `WEIGHED_TOKENS`, in nats; None where it can't be
    seen."""
    usage: WorkerUsage = field(default_factory=WorkerUsage)
    cut: bool = False
    """The answer or its citation ran on and was closed by the engine at its limit: what stands
    there is only its beginning."""
    analysis: str = ""
    """What the worker reasoned before it answered; for the trace only."""
    analysis_cut: bool = False
    """The reasoning reached its cap and was closed by the engine."""
    raw_output: str = ""
    """The final channel as decoded, for the trace."""
    error: str | None = None
    """Set exactly when failed: what happened and whether a retry may help."""
    elapsed_s: float = 0.0
    """Seconds from submission to result."""
