"""`minions bench followup`: what a further question about the same document costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from eval.bench.competitors import answers
from eval.bench.measure import in_own_process, timed
from eval.bench.workloads import OUTPUT_TOKENS, TASKS, Workload, prompts_for
from workers.jobs import Job, Sampling
from workers.models import KvBudget, build_engine, resolve_model

DOCUMENT: Final = Workload(name="document", n_chunks=4, chunk_tokens=1500, n_tasks=3, n_samples=1)
FIRST: Final = "first"
_FOLLOW_UPS: Final = {
    "from memory": ("Who pays the rate?", "When does it end?", "What is the total income?"),
    "from disk": ("Who may change it?", "When is it due?", "What does the company own?"),
    "after a restart": ("Who made the report?", "Which year is it?", "What is the first date?"),
}
_RAM_BYTES: Final = 1 << 30
_DISK_BYTES: Final = 4 << 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One question about the whole document."""

    name: str
    wall_s: float
    cpu_s: float
    prefill_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowUp:
    """First and further questions, with so many tasks each."""

    n_tasks: int
    rounds: tuple[Round, ...]
    """The first one reads; the others find it read: in memory, on disk, after a restart."""
    stored_bytes: int
    """Of the document, on disk."""

    def as_json(self) -> dict[str, Any]:
        first = self.rounds[0]
        return {
            "n_tasks": self.n_tasks,
            "stored_bytes": self.stored_bytes,
            "rounds": {each.name: asdict(each) for each in self.rounds},
            "ratio": {
                each.name: {
                    "prefill_tokens": first.prefill_tokens / max(each.prefill_tokens, 1),
                    "wall": each.wall_s / first.wall_s,
                    "cpu": each.cpu_s / first.cpu_s,
                }
                for each in self.rounds[1:]
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is asked of which document."""

    gguf: Path
    n_threads: int
    n_tasks: int
    n_chunks: int = DOCUMENT.n_chunks
    chunk_tokens: int = DOCUMENT.chunk_tokens
    """Both of the made-up document."""
    chunks: tuple[str, ...] = ()
    """Of a real document, asked greedily as users' are; none: of a made-up one, whose answers are
    drawn, since random weights would repeat themselves."""

    def jobs(self) -> list[Job]:
        """Of the first round."""
        if not self.chunks:
            work = replace(
                DOCUMENT,
                n_chunks=self.n_chunks,
                chunk_tokens=self.chunk_tokens,
                n_tasks=self.n_tasks,
            )
            return prompts_for(work, self.gguf).jobs()
        greedy = Sampling(max_output_tokens=OUTPUT_TOKENS)
        return [
            Job(job_id=f"{c}-{t}", chunk_id=str(c), chunk_text=text, task=task, sampling=greedy)
            for c, text in enumerate(self.chunks)
            for t, task in enumerate(TASKS[: self.n_tasks])
        ]


def follow_up(asked: Asked, folder: Path) -> FollowUp:
    """Ask four times. `folder` is for the store on disk, and must be empty."""
    kv = KvBudget(ram_bytes=_RAM_BYTES, folder=folder, disk_bytes=_DISK_BYTES)
    no_ram = replace(kv, ram_bytes=0)
    rounds = [
        *in_own_process(_ask, asked, kv, (FIRST, "from memory")),
        *in_own_process(_ask, asked, no_ram, ("from disk",)),
        *in_own_process(_ask, asked, kv, ("after a restart",)),
    ]
    stored_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return FollowUp(n_tasks=asked.n_tasks, rounds=tuple(rounds), stored_bytes=stored_bytes)


def _ask(asked: Asked, kv: KvBudget, names: Sequence[str]) -> list[Round]:
    """One engine, as it is by default; one question after the other."""
    jobs = asked.jobs()
    tasks = list(dict.fromkeys(job.task for job in jobs))
    spec = resolve_model(str(asked.gguf), Path())
    engine = build_engine(spec, n_threads=asked.n_threads, kv=kv)
    rounds = []
    for name in names:
        with timed() as watch:
            results = answers(engine, [_asked(job, name, tasks.index(job.task)) for job in jobs])
        usages = [result.usage for result in results]
        rounds.append(
            Round(
                name=name,
                wall_s=watch.wall_s,
                cpu_s=watch.cpu_s,
                prefill_tokens=sum(usage.prefilled_tokens for usage in usages),
                output_tokens=sum(usage.output_tokens for usage in usages),
            )
        )
    engine.close()
    return rounds


def _asked(job: Job, name: str, index: int) -> Job:
    """The job as it is in the first round; later, another question, which nobody asked before."""
    if name == FIRST:
        return job
    return replace(job, job_id=f"{name} {job.job_id}", task=_FOLLOW_UPS[name][index])
