"""The benchmark's workloads: texts made up from a seed, cut to size by the model's tokenizer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.jobs import Job, Sampling
from workers.llama.api import LlamaModel
from workers.llama.frame import Frame, build_frame
from workers.llama.tokenizer import LlamaTokenizer
from workers.prompt import worker_prompt

OUTPUT_TOKENS: Final = 64
TASKS: Final = (
    "What is the total amount of the agreement, and on which date is it due?",
    "Which company or party is named in this section, and what shall it do?",
    "Is there a rate or a term in years that may be changed by notice?",
)
_WORDS: Final = """
the of and to in is that it for was on are as with be at this have from or by not but what all
were when there can an which their if do will each about how up out them then many some so these
would other into has more two time could no than first been its now people made over did only way
may long little very after words called just where most know question page document shall party
agreement date company section rate amount year month report total income
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """So many jobs: chunks x tasks x samples."""

    name: str
    n_chunks: int
    chunk_tokens: int
    n_tasks: int
    n_samples: int

    @property
    def n_jobs(self) -> int:
        return self.n_chunks * self.n_tasks * self.n_samples


WORKLOADS: Final = {
    work.name: work
    for work in (
        Workload(name="W1", n_chunks=6, chunk_tokens=512, n_tasks=3, n_samples=2),
        Workload(name="W2", n_chunks=6, chunk_tokens=1500, n_tasks=3, n_samples=1),
        Workload(name="W3", n_chunks=40, chunk_tokens=1000, n_tasks=1, n_samples=1),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """A workload for one model."""

    chunks: tuple[str, ...]
    tasks: tuple[str, ...]
    n_samples: int
    frame: Frame

    def jobs(self) -> list[Job]:
        """In chunk order: the samples of a task beside each other."""
        return [
            Job(
                job_id=f"{c}-{t}-{s}",
                chunk_id=str(c),
                chunk_text=chunk,
                task=task,
                sample=s,
                sampling=sampling(s),
            )
            for c, chunk in enumerate(self.chunks)
            for t, task in enumerate(self.tasks)
            for s in range(self.n_samples)
        ]

    def ids(self, job: Job) -> list[int]:
        """The whole prompt of a job as tokens, for those who take prompts."""
        head = self.frame.instructions.tolist() + self.frame.chunk_tokens(job.chunk_text).tolist()
        return [*head, *self.frame.job_tokens(job.task).tolist()]

    @property
    def unique_tokens(self) -> int:
        """Prompt tokens when nothing is computed twice."""
        frame = self.frame
        n_tasks = sum(len(frame.job_tokens(task)) for task in self.tasks) * len(self.chunks)
        n_chunks = sum(len(frame.chunk_tokens(chunk)) for chunk in self.chunks)
        return len(frame.instructions) + n_chunks + n_tasks


def sampling(seed: int) -> Sampling:
    """Drawn, not greedy: the samples differ, and random weights do not fall into a loop."""
    return Sampling(temperature=1.0, top_k=40, seed=seed, max_output_tokens=OUTPUT_TOKENS)


def prompts_for(workload: Workload, gguf: Path, *, seed: int = 0) -> Prompts:
    """The workload's prompts in a model's tokens; the same every time."""
    model = LlamaModel(gguf, vocab_only=True)
    tokenizer = LlamaTokenizer(model)
    source = random.Random(seed)
    return Prompts(
        chunks=tuple(
            made_up_text(tokenizer, workload.chunk_tokens, source) for _ in range(workload.n_chunks)
        ),
        tasks=TASKS[: workload.n_tasks],
        n_samples=workload.n_samples,
        frame=build_frame(model, tokenizer, worker_prompt()),
    )


def made_up_text(tokenizer: LlamaTokenizer, n_tokens: int, source: random.Random) -> str:
    """Sentences of common words and numbers, of `n_tokens` tokens or one or two less."""
    words = list(_words(source, n_tokens))
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if tokenizer.count(" ".join(words[:middle])) <= n_tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


def _words(source: random.Random, n: int) -> Iterator[str]:
    words = _WORDS.split()
    for index in range(n):
        word = source.choice(words)
        if source.random() < 0.08:
            word = f"{source.randint(1, 9999)}"
        yield f"{word}." if index % 14 == 13 else word
