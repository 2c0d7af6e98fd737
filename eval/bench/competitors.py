"""The same jobs done by our engine, and one by one by llama-cpp-python's own `Llama` class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import Llama
from llama_cpp.llama_grammar import LlamaGrammar

from eval.bench.measure import Measured, own_peak_rss_bytes, timed
from eval.bench.workloads import OUTPUT_TOKENS, Workload, prompts_for
from workers.jobs import Job, JobResult
from workers.llama.api import LlamaModel
from workers.llama.context import Batch, LlamaContext
from workers.llama.grammar import GBNF
from workers.models import build_engine, resolve_model
from workers.seams import Engine

N_CTX = 16_384


def run_minions(gguf: Path, workload: Workload, n_threads: int) -> Measured:
    """Our engine as it is set by default."""
    jobs = prompts_for(workload, gguf).jobs()
    engine = build_engine(resolve_model(str(gguf), Path()), n_threads=n_threads)
    with timed() as watch:
        results = answers(engine, jobs)
    engine.close()
    return Measured(
        wall_s=watch.wall_s,
        cpu_s=watch.cpu_s,
        prefill_tokens=sum(result.usage.prefilled_tokens for result in results),
        output_tokens=sum(result.usage.output_tokens for result in results),
        peak_rss_bytes=own_peak_rss_bytes(),
    )


def answers(engine: Engine, jobs: Sequence[Job]) -> list[JobResult]:
    """Submit all, step until all have ended."""
    for job in jobs:
        engine.submit(job)
    results: list[JobResult] = []
    while engine.n_pending:
        results += [output for output in engine.step() if isinstance(output, JobResult)]
    return results


def in_job_order(jobs: list[Job]) -> list[Job]:
    """As the paper's protocol makes them: each round asks one task of every chunk."""
    return sorted(jobs, key=lambda job: (job.sample, job.task, int(job.chunk_id)))


def in_chunk_order(jobs: list[Job]) -> list[Job]:
    """All jobs of a chunk after each other, so that `Llama` finds its prefix computed."""
    return list(jobs)


def run_llama_class(
    gguf: Path,
    workload: Workload,
    n_threads: int,
    order: Callable[[list[Job]], list[Job]],
) -> Measured:
    """`Llama` one job at a time, with flash attention and a GBNF grammar."""
    prompts = prompts_for(workload, gguf)
    jobs = order(prompts.jobs())
    longest = max(len(prompts.ids(job)) for job in jobs) + OUTPUT_TOKENS
    llama = _CountingLlama(
        model_path=str(gguf),
        n_ctx=longest + 64,
        n_threads=n_threads,
        n_threads_batch=n_threads,
        flash_attn=True,
        verbose=False,
    )
    grammar = LlamaGrammar.from_string(GBNF, verbose=False)
    n_output = 0
    with timed() as watch:
        for job in jobs:
            reply: Any = llama.create_completion(
                prompts.ids(job),
                max_tokens=OUTPUT_TOKENS,
                temperature=job.sampling.temperature,
                top_k=job.sampling.top_k,
                top_p=1.0,
                min_p=0.0,
                seed=job.sampling.seed,
                grammar=grammar,
            )
            n_output += reply["usage"]["completion_tokens"]
    return Measured(
        wall_s=watch.wall_s,
        cpu_s=watch.cpu_s,
        prefill_tokens=llama.n_evaluated - n_output,
        output_tokens=n_output,
        peak_rss_bytes=own_peak_rss_bytes(),
    )


class _CountingLlama(Llama):
    """Counts the tokens that it computes; a prefix found in its cache is not among them."""

    n_evaluated = 0

    def eval(self, tokens: Sequence[int]) -> Any:
        self.n_evaluated += len(tokens)
        return super().eval(tokens)


def prefill_rate(gguf: Path, n_threads: int, n_batches: int = 6) -> tuple[float, float]:
    """llama.cpp's own prefill: tokens per second of wall time and of CPU time, over batches of 512
    on an empty context, as llama-bench's pp512 measures it."""
    model = LlamaModel(gguf)
    context = LlamaContext(
        model, n_ctx=1024, n_sequences=1, n_batch=512, n_threads=n_threads, kv_type="f16"
    )
    batch = Batch(512)
    source = np.random.default_rng(0).integers(0, model.n_vocab * 9 // 10, 512).astype(np.int32)
    for n_rounds in (1, n_batches):  # the first warms up
        with timed() as watch:
            for _ in range(n_rounds):
                batch.clear()
                batch.add(source, first_position=0, sequence=0, wanted=True)
                context.decode(batch)
                context.logits(1)
                context.clear(0)
    context.close()
    model.close()
    return n_batches * 512 / watch.wall_s, n_batches * 512 / watch.cpu_s
