"""`minions bench gpt-oss-20b`: the full shape with random weights, to measure memory and speed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from eval.bench.competitors import answers, prefill_rate
from eval.bench.measure import in_own_process, own_peak_rss_bytes, timed
from eval.bench.workloads import Workload, prompts_for
from workers.errors import EngineUnavailable
from workers.llama.engine import LlamaCppEngine
from workers.llama.sizing import LlamaSettings
from workers.random_gguf import SHAPES, write_random_gguf

FILE_BYTES: Final = 12_200_000_000
CONTEXT_TOKENS: Final = 8192
READING: Final = Workload(name="20b", n_chunks=1, chunk_tokens=512, n_tasks=3, n_samples=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded20b:
    """What the model took and how fast it was."""

    peak_rss_bytes: int
    anonymous_bytes: int
    """Main memory that is ours alone; the rest of the peak is the file's own pages, which the
    system takes back when it needs them."""
    load_s: float
    wall_s: float
    cpu_s: float
    prefill_tokens: int
    output_tokens: int
    prefill_per_s: float
    plan: str
    llama_bench: list[dict[str, Any]] | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_model(folder: Path, say: Callable[[str], None]) -> Path:
    """The random-weight file in `folder`, made unless it is there already.

    Raises EngineUnavailable when the disk has no room (the file is written twice on its way)."""
    path = folder / "gpt-oss-20b-random.gguf"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 2 * FILE_BYTES:
        raise EngineUnavailable(
            f"{folder} has {free / 1e9:.1f} GB free, {2 * FILE_BYTES / 1e9:.1f} GB are needed to "
            "make the model: give another --scratch folder"
        )
    return made_once(path, "gpt-oss-20b", say)


def made_once(path: Path, shape: str, say: Callable[[str], None]) -> Path:
    """A random-weight model of `shape` at `path`, made unless it is there; whole or not at all."""
    if path.is_file():
        return path
    say(f"making {path} with random weights, once")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        write_random_gguf(part, shape=SHAPES[shape])
        return part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def measure(gguf: Path, n_threads: int | None, llama_bench: Path | None) -> Loaded20b:
    """Load, read one chunk for three tasks, and compare with llama-bench where it is given."""
    found = in_own_process(_load_and_read, gguf, n_threads)
    bench = run_llama_bench(llama_bench, gguf, n_threads) if llama_bench else None
    return Loaded20b(**found, llama_bench=bench)


def _load_and_read(gguf: Path, n_threads: int | None) -> dict[str, Any]:
    jobs = prompts_for(READING, gguf).jobs()
    settings = LlamaSettings(n_threads=n_threads, n_ctx=CONTEXT_TOKENS)
    with timed() as loading:
        engine = LlamaCppEngine.load(gguf, settings=settings)
    with timed() as watch:
        results = answers(engine, jobs)
    facts = {
        "peak_rss_bytes": own_peak_rss_bytes(),
        "anonymous_bytes": _anonymous_bytes(),
        "load_s": loading.wall_s,
        "wall_s": watch.wall_s,
        "cpu_s": watch.cpu_s,
        "prefill_tokens": sum(result.usage.prefilled_tokens for result in results),
        "output_tokens": sum(result.usage.output_tokens for result in results),
        "plan": engine.plan,
    }
    engine.close()
    n_used = n_threads or psutil.cpu_count(logical=False) or 1
    return {**facts, "prefill_per_s": prefill_rate(gguf, n_used, n_batches=1)[0]}


def _anonymous_bytes() -> int:
    """Of this process now: resident memory without the pages of files."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def run_llama_bench(binary: Path, gguf: Path, n_threads: int | None) -> list[dict[str, Any]]:
    """llama-bench's own rates for prompts and generation.

    Raises EngineUnavailable when it fails."""
    command = [str(binary), "-m", str(gguf), "-p", "512", "-n", "64", "-r", "2", "-o", "json"]
    command += ["-fa", "1"]
    command += ["-t", str(n_threads)] if n_threads else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineUnavailable(f"{binary} failed: {done.stderr.strip()[-300:]}")
    return [
        {key: row.get(key) for key in ("n_prompt", "n_gen", "avg_ts", "n_gpu_layers", "backends")}
        for row in json.loads(done.stdout)
    ]
