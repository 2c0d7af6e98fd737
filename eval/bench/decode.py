"""`minions bench decode`: our decoding against llama.cpp alone, and what Python and grammar add."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from eval.bench.competitors import N_CTX
from eval.bench.measure import in_own_process, timed
from eval.bench.workloads import OUTPUT_TOKENS, Workload, prompts_for
from workers.errors import EngineUnavailable
from workers.jobs import Sampling
from workers.llama.api import LlamaModel
from workers.llama.context import Batch, DecodeOutcome, LlamaContext
from workers.llama.engine import LlamaCppEngine
from workers.llama.grammar import AnswerGrammar
from workers.llama.loading import Loaded
from workers.llama.schedule import Limits
from workers.llama.tokenizer import LlamaTokenizer
from workers.prompt import worker_prompt

BATCHES: Final = (1, 4, 8, 16)
_PROMPT_TOKENS: Final = 512
_STEPS: Final = 40
_FAVOUR: Final = 16.0
"""Logits: leaves 200,000 tokens that differ by two or three about a percent together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRate:
    """Decoding with so many answers at a time, over one shared chunk."""

    n_sequences: int
    ours_per_s: float
    """Tokens per second of wall time, sampling and grammar included."""
    bare_per_s: float
    """llama_decode alone on the same cells, in the same process kind; no sampling."""
    ours_per_cpu_s: float
    bare_per_cpu_s: float
    python_ms_per_step: float
    """CPU time of the engine's thread outside llama_decode, for jobs as they are by default:
    planning, batch, each row's best token, grammar, the probability of an answer's first tokens."""
    python_ms_per_sure_step: float
    """The same where each row has a favourite, as most rows of trained models have. Random weights
    have none, and the probability of a token then takes a pass over the whole vocabulary."""
    python_ms_per_drawn_step: float
    """Without favourites, where tokens are drawn from the best 40."""
    reading_ms_per_step: float
    """numpy's argmax of each row after llama_decode, and nothing else: the share of memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GrammarCost:
    """What the JSON grammar costs per token."""

    n_vocab: int
    checked_first_us: float
    """One token is asked about, as we do."""
    all_candidates_us: float
    """Every token is, as llama-cpp-python's `Llama` does."""


def decode_rates(gguf: Path, n_threads: int) -> list[DecodeRate]:
    """Ours and llama.cpp's, for each batch size."""
    return [in_own_process(_rate, gguf, n_threads, n) for n in BATCHES]


def _rate(gguf: Path, n_threads: int, n_sequences: int) -> DecodeRate:
    *_, greedy_ms = _our_rate(gguf, n_threads, n_sequences)
    *_, sure_ms = _our_rate(gguf, n_threads, n_sequences, is_sure=True)
    ours, per_cpu, drawn_ms = _our_rate(gguf, n_threads, n_sequences, is_drawn=True)
    bare, bare_per_cpu, reading_ms = _bare_rate(gguf, n_threads, n_sequences)
    return DecodeRate(
        n_sequences=n_sequences,
        ours_per_s=ours,
        bare_per_s=bare,
        ours_per_cpu_s=per_cpu,
        bare_per_cpu_s=bare_per_cpu,
        python_ms_per_step=greedy_ms,
        python_ms_per_sure_step=sure_ms,
        python_ms_per_drawn_step=drawn_ms,
        reading_ms_per_step=reading_ms,
    )


class _EndlessContext(LlamaContext):
    """Random weights that write on as trained ones do inside an answer: what would end it, and what
    can't stand in a string, is made unlikely. With `is_sure` each row's best is made the likeliest
    by far."""

    def __init__(
        self, model: LlamaModel, *, n_threads: int, n_sequences: int, is_sure: bool
    ) -> None:
        super().__init__(model, **_settings(n_threads, n_sequences + 2))
        self._is_sure = is_sure
        control = LlamaTokenizer(model).control_tokens
        texts = enumerate(model.token_bytes(token) for token in range(model.n_vocab))
        self._barred = np.array([t for t, text in texts if t in control or _ends_or_breaks(text)])

    def decode(self, batch: Batch) -> DecodeOutcome:
        outcome = super().decode(batch)
        if batch.n_wanted and outcome is DecodeOutcome.DONE:
            rows = self.logits(batch.n_wanted)
            rows[:, self._barred] = -100.0
            if self._is_sure:
                rows[np.arange(len(rows)), rows.argmax(1)] += _FAVOUR
        return outcome


def _ends_or_breaks(text: bytes) -> bool:
    """Tokens with a quotation mark, but for those that may open a string; what begins null; and
    what JSON would have to escape."""
    if text in (b'"', b' "'):
        return False
    return text.lstrip(b" ")[:1] in (b"n", b"") or any(byte < 32 or byte in b'"\\' for byte in text)


def _endless_engine(
    gguf: Path, n_threads: int, n_sequences: int, *, is_sure: bool
) -> LlamaCppEngine:
    model = LlamaModel(gguf)
    context = _EndlessContext(model, n_threads=n_threads, n_sequences=n_sequences, is_sure=is_sure)
    limits = Limits(
        n_sequences=context.n_sequences,
        n_cells=context.n_ctx,
        n_batch=context.n_batch,
        live_chunks=1,
    )
    loaded = Loaded(model=model, context=context, limits=limits, name=gguf.stem)
    return LlamaCppEngine(loaded, prompt=worker_prompt())


def _our_rate(
    gguf: Path,
    n_threads: int,
    n_sequences: int,
    *,
    is_drawn: bool = False,
    is_sure: bool = False,
) -> tuple[float, float, float]:
    """Samples of one task: all of them decode in every batch. Rows per second of wall and of CPU
    time, and milliseconds of a step outside llama_decode."""
    work = Workload(
        name="decode", n_chunks=1, chunk_tokens=_PROMPT_TOKENS, n_tasks=1, n_samples=n_sequences
    )
    engine = _endless_engine(gguf, n_threads, n_sequences, is_sure=is_sure)
    greedy = Sampling(max_output_tokens=OUTPUT_TOKENS)
    for job in prompts_for(work, gguf).jobs():
        engine.submit(job if is_drawn else replace(job, sampling=greedy))
    counters, n_before = engine.counters, -1
    while n_before != n_sequences:  # up to the first batch with a row of each answer
        n_before = counters.n_rows
        engine.step()
        n_before = counters.n_rows - n_before
    rows, steps, inside_s = counters.n_rows, counters.n_steps, counters.decode_own_s
    begin_own_s = time.thread_time()
    with timed() as watch:
        while engine.n_pending and counters.n_steps - steps < _STEPS:
            engine.step()
    n_rows, n_steps = counters.n_rows - rows, counters.n_steps - steps
    outside_s = time.thread_time() - begin_own_s - (counters.decode_own_s - inside_s)
    engine.close()
    return n_rows / watch.wall_s, n_rows / watch.cpu_s, 1000 * outside_s / n_steps


def _bare_rate(gguf: Path, n_threads: int, n_sequences: int) -> tuple[float, float, float]:
    """What llama-batched-bench does: a shared prompt, then one row per sequence and step. Rows per
    second of wall and of CPU time; then, with more steps, milliseconds to look at their logits."""
    model = LlamaModel(gguf)
    context = LlamaContext(model, **_settings(n_threads, n_sequences + 1))
    tokens = np.random.default_rng(0).integers(0, model.n_vocab * 9 // 10, _PROMPT_TOKENS)
    batch = Batch(_PROMPT_TOKENS)
    batch.add(tokens.astype(np.int32), first_position=0, sequence=0, wanted=False)
    context.decode(batch)
    for sequence in range(1, n_sequences + 1):
        context.fork(parent=0, child=sequence)
    with timed() as watch:
        for step in range(_STEPS):
            _decode_row_each(context, batch, n_sequences, _PROMPT_TOKENS + step)
    reading_s = 0.0
    for step in range(_STEPS, 2 * _STEPS):
        _decode_row_each(context, batch, n_sequences, _PROMPT_TOKENS + step)
        begin_s = time.thread_time()
        for row in context.logits(n_sequences):
            row.argmax()
        reading_s += time.thread_time() - begin_s
    context.close()
    model.close()
    n_rows = n_sequences * _STEPS
    return n_rows / watch.wall_s, n_rows / watch.cpu_s, 1000 * reading_s / _STEPS


def _settings(n_threads: int, n_sequences: int) -> dict[str, Any]:
    """Of both contexts."""
    return {
        "n_ctx": N_CTX,
        "n_sequences": n_sequences,
        "n_batch": _PROMPT_TOKENS,
        "n_threads": n_threads,
        "kv_type": "f16",
    }


def _decode_row_each(context: LlamaContext, batch: Batch, n_sequences: int, position: int) -> None:
    batch.clear()
    for sequence in range(1, n_sequences + 1):
        token = np.array([100 + sequence], np.int32)
        batch.add(token, first_position=position, sequence=sequence, wanted=True)
    context.decode(batch)
    context.logits(n_sequences)


def grammar_cost(gguf: Path) -> GrammarCost:
    """Measured inside an answer's string, where most tokens are allowed."""
    model = LlamaModel(gguf, vocab_only=True)
    tokenizer = LlamaTokenizer(model)
    grammar = AnswerGrammar(model, tokenizer)
    tokens = tokenizer.encode(' "the date of the agreement is not the date of the report')
    state = grammar.start()
    begin = time.process_time()
    for token in tokens:
        state.allows(token)
        state.accept(token)
    checked_s = time.process_time() - begin
    vocabulary = np.arange(model.n_vocab, dtype=np.int32)
    begin = time.process_time()
    for _ in tokens:
        state.keep_allowed(vocabulary)
    all_s = time.process_time() - begin
    state.close()
    grammar.close()
    model.close()
    return GrammarCost(
        n_vocab=len(vocabulary),
        checked_first_us=1e6 * checked_s / len(tokens),
        all_candidates_us=1e6 * all_s / len(tokens),
    )


def batched_bench(binary: Path, gguf: Path, n_threads: int) -> dict[int, float]:
    """llama-batched-bench's own decode rate per batch size, in tokens per second.

    Raises EngineUnavailable when the program fails."""
    sizes = ",".join(map(str, BATCHES))
    command = [
        str(binary), "-m", str(gguf), "-c", str(N_CTX), "-b", "512", "-ub", "512", "-fa", "on",
        "-npp", str(_PROMPT_TOKENS), "-ntg", str(_STEPS), "-npl", sizes, "-pps",
        "-t", str(n_threads), "-tb", str(n_threads), "--output-format", "jsonl",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        raise EngineUnavailable(f"{binary} printed no figures: {done.stderr.strip()[-300:]}")
    return {int(row["pl"]): float(row["speed_tg"]) for row in rows}


def to_json(
    rates: Sequence[DecodeRate], cost: GrammarCost, theirs: dict[int, float] | None
) -> dict[str, Any]:
    """The whole run."""
    return {
        "batch": {str(rate.n_sequences): asdict(rate) for rate in rates},
        "grammar": asdict(cost),
        "llama_batched_bench_per_s": theirs and {str(n): rate for n, rate in theirs.items()},
    }
