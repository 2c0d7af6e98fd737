"""Local inference: jobs in, results out. A worker knows jobs, not documents, money or clouds.

Importing this package is cheap: it brings types, seams, errors and the prompt. Engines, pools and
models are imported from their own modules, by the one place that builds them:

    workers.models        resolve_model, build_engine: from a name to an engine
    workers.inline_pool   InlinePool: one engine, many concurrent runs
    workers.pull          pull: fetch a model
    workers.machine       probe_machine, what_can_run: the doctor
"""

from workers.chat import ChatDelta, ChatJob, ChatResult, Message, Role, Tool, ToolCall
from workers.errors import (
    EngineCrashed,
    EngineUnavailable,
    JobRejected,
    ModelCorrupt,
    ModelNotFound,
    ModelTooLarge,
    WorkerError,
)
from workers.jobs import Effort, Job, JobResult, JobStatus, Sampling, WorkerUsage
from workers.prompt import WorkerPrompt, worker_prompt
from workers.seams import Engine, EngineInfo, Tokenizer, WorkerPool

__all__ = [
    "ChatDelta",
    "ChatJob",
    "ChatResult",
    "Effort",
    "Engine",
    "EngineCrashed",
    "EngineInfo",
    "EngineUnavailable",
    "Job",
    "JobRejected",
    "JobResult",
    "JobStatus",
    "Message",
    "ModelCorrupt",
    "ModelNotFound",
    "ModelTooLarge",
    "Role",
    "Sampling",
    "Tokenizer",
    "Tool",
    "ToolCall",
    "WorkerError",
    "WorkerPool",
    "WorkerPrompt",
    "WorkerUsage",
    "worker_prompt",
]
