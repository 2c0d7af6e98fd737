"""`minions bench engine`, `followup`, `decode` and `gpt-oss-20b`: the local engine, measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from eval.bench import decode as decoding
from eval.bench import engine as comparing
from eval.bench import gpt_oss
from eval.bench.engine import Asked, Comparison
from eval.bench.followup import DOCUMENT, FollowUp, follow_up
from eval.bench.followup import Asked as FollowUpAsked
from eval.bench.measure import Measured, Surroundings, ending_on_sigterm
from eval.bench.workloads import WORKLOADS
from minions.chunking import chunk_document
from minions.cli.common import JsonOption, StateOption, err, out
from minions.documents.ingest import read_document
from minions.errors import BadRequest
from minions.planning import MIN_CHUNK_TOKENS
from minions.settings import load_settings
from workers.llama.api import LlamaModel
from workers.llama.loading import plan_placement
from workers.llama.sizing import LlamaSettings, free_threads
from workers.llama.tokenizer import LlamaTokenizer
from workers.models import describe_plan, resolve_model

BENCH_SHAPE = "small-32k"
DECODE_SHAPE = "small-201k"
_MADE_SHAPES = (BENCH_SHAPE, DECODE_SHAPE)

GgufOption = Annotated[
    Path | None,
    typer.Option("--gguf", help="The model; default: one of random weights, made once."),
]
ShapeOption = Annotated[
    str,
    typer.Option(
        help=f"Without --gguf: {BENCH_SHAPE} (70 MB) or {DECODE_SHAPE} (265 MB, gpt-oss's "
        "vocabulary)."
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Compute threads; default: cores free now.")
]
ScratchOption = Annotated[
    Path | None, typer.Option("--scratch", help="Folder for models made here; default: the state's")
]


def engine(
    gguf: GgufOption = None,
    server_bin: Annotated[
        Path | None, typer.Option(help="llama-server, to compare with (workers/deploy says how).")
    ] = None,
    workload: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(WORKLOADS)}; default: all.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help=f"Of {'; '.join(comparing.COMPETITORS)}. Default: all, often minutes."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="The best of so many counts.")] = 1,
    threads: ThreadsOption = None,
    shape: ShapeOption = BENCH_SHAPE,
    scratch: ScratchOption = None,
    state_dir: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """The same jobs by our engine, by llama-cpp-python one by one, and by llama-server.

    W1: 6 chunks of 512 tokens, 3 tasks, 2 samples. W2: 6 chunks of 1500, 3 tasks. W3: 40 chunks of
    1000, 1 task. Answers are JSON of 64 tokens. Each competitor's figures go to stderr as they
    come; with a server, expect five minutes a workload on two cores.
    """
    check_names("workload", workload, WORKLOADS)
    check_names("competitor", against, comparing.COMPETITORS)
    check_binary(server_bin, "--server-bin")
    path = bench_model(gguf, shape, scratch, state_dir)
    asked = Asked(
        gguf=path,
        n_threads=threads or free_threads(path.stat().st_size),
        workloads=workload or tuple(WORKLOADS),
        against=against or comparing.COMPETITORS,
        server_binary=server_bin,
        n_rounds=rounds,
    )
    _say_engine_plan(path, asked.n_threads)
    with ending_on_sigterm():
        comparisons = comparing.compare(asked, _say_measured)
    if as_json:
        typer.echo(json.dumps(comparing.to_json(comparisons, asked), indent=2))
        return
    for comparison in comparisons:
        out.print(_comparison_table(comparison))
    out.print(_surroundings(asked.n_threads))


def followup(
    gguf: GgufOption = None,
    document: Annotated[
        Path | None, typer.Option(help="A real document; default: a made-up one.")
    ] = None,
    chunks: Annotated[
        int | None, typer.Option(min=1, help="Of the made-up document; default: 4.")
    ] = None,
    chunk_tokens: Annotated[
        int, typer.Option(min=MIN_CHUNK_TOKENS, help="Tokens of a chunk.")
    ] = DOCUMENT.chunk_tokens,
    threads: ThreadsOption = None,
    shape: ShapeOption = BENCH_SHAPE,
    scratch: ScratchOption = None,
    state_dir: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """A further question about a document: from memory, from disk, after a restart."""
    if document and chunks:
        raise BadRequest("A real document has its own chunks: leave --chunks out, or --document.")
    path = bench_model(gguf, shape, scratch, state_dir)
    n_threads = threads or free_threads(path.stat().st_size)
    texts = _chunks_of(document, path, chunk_tokens) if document else ()
    _say_engine_plan(path, n_threads)
    found = []
    for n_tasks in (3, 1):
        asked = FollowUpAsked(
            gguf=path,
            n_threads=n_threads,
            n_tasks=n_tasks,
            n_chunks=chunks or DOCUMENT.n_chunks,
            chunk_tokens=chunk_tokens,
            chunks=texts,
        )
        folder = tempfile.TemporaryDirectory(prefix="minions-kv-")
        with ending_on_sigterm(), folder as name:
            found.append(follow_up(asked, Path(name)))
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in found], indent=2))
        return
    for each in found:
        out.print(_followup_table(each))
    out.print(_surroundings(n_threads))


def decode(
    gguf: GgufOption = None,
    batched_bench_bin: Annotated[
        Path | None, typer.Option(help="llama-batched-bench, to compare with.")
    ] = None,
    threads: ThreadsOption = None,
    shape: ShapeOption = DECODE_SHAPE,
    scratch: ScratchOption = None,
    state_dir: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Our decoding at several batch sizes against llama.cpp alone, and the cost of the grammar."""
    check_binary(batched_bench_bin, "--batched-bench-bin")
    path = bench_model(gguf, shape, scratch, state_dir)
    n_threads = threads or free_threads(path.stat().st_size)
    say_plan(path)
    theirs: dict[int, float] | None = None
    with ending_on_sigterm():
        rates = decoding.decode_rates(path, n_threads)
        cost = decoding.grammar_cost(path)
        if batched_bench_bin:
            theirs = decoding.batched_bench(batched_bench_bin, path, n_threads)
    if as_json:
        typer.echo(json.dumps(decoding.to_json(rates, cost, theirs), indent=2))
        return
    out.print(_decode_table(rates, theirs or {}))
    out.print(_python_table(rates))
    out.print(
        f"  grammar over {cost.n_vocab:,} tokens: {cost.checked_first_us:.1f} us a token checked "
        f"first, {cost.all_candidates_us / 1000:.1f} ms asked of every token"
    )
    out.print(_surroundings(n_threads))


def gpt_oss_20b(
    llama_bench_bin: Annotated[
        Path | None, typer.Option(help="llama-bench, to compare with.")
    ] = None,
    threads: ThreadsOption = None,
    scratch: ScratchOption = None,
    keep: Annotated[bool, typer.Option(help="Leave the 12 GB file for the next time.")] = False,
    state_dir: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """The full shape of gpt-oss-20b with random weights: memory and speed on this machine.

    Makes a file of 12.1 GB (24 GB of disk on its way), and removes it. Two cores take a quarter of
    an hour, a GPU with 16 GB some minutes, most of them for the file.
    """
    check_binary(llama_bench_bin, "--llama-bench-bin")
    with ending_on_sigterm():
        path = gpt_oss.make_model(scratch_folder(scratch, state_dir), _say)
        try:
            say_plan(path, LlamaSettings(n_ctx=gpt_oss.CONTEXT_TOKENS))
            found = gpt_oss.measure(path, threads, llama_bench_bin)
        finally:
            if not keep:
                path.unlink()
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
        return
    out.print(_facts_table(found.as_json()))


def bench_model(
    gguf: Path | None, shape: str, scratch: Path | None, state_dir: Path | None
) -> Path:
    """The given model, or one of random weights, made once. Raises BadRequest for a wrong path or
    shape."""
    if gguf is not None:
        if not gguf.is_file():
            raise BadRequest(f"There is no file {gguf}. Give the path of a .gguf file.")
        return gguf
    if shape not in _MADE_SHAPES:
        raise BadRequest(f"There is no shape {shape!r}. Use {' or '.join(_MADE_SHAPES)}.")
    path = scratch_folder(scratch, state_dir) / f"{shape}.gguf"
    return gpt_oss.made_once(path, shape, _say)


def _chunks_of(document: Path, gguf: Path, chunk_tokens: int) -> tuple[str, ...]:
    """The document's text as the model would be given it. Raises BadRequest for a wrong path, and
    what reading the document raises."""
    if not document.is_file():
        raise BadRequest(f"There is no file {document}. Give the path of a document.")
    read = asyncio.run(read_document(document.read_bytes(), document.name))
    with contextlib.closing(LlamaModel(gguf, vocab_only=True)) as model:
        chunks = chunk_document(read, LlamaTokenizer(model), chunk_tokens)
    return tuple(chunk.text for chunk in chunks)


def check_names(what: str, given: Sequence[str] | None, known: Collection[str]) -> None:
    """Raise BadRequest for a name that is not known."""
    for name in given or ():
        if name not in known:
            raise BadRequest(f"There is no {what} {name!r}. Use {'; '.join(known)}.")


def check_binary(path: Path | None, option: str) -> None:
    """Raise BadRequest unless a program that was named is there and can be run: before an hour of
    measuring, not after it."""
    if path is not None and not (path.is_file() and os.access(path, os.X_OK)):
        raise BadRequest(
            f"{option} {path} is no program. workers/deploy/LLAMA_SERVER.md says how to build it."
        )


def scratch_folder(scratch: Path | None, state_dir: Path | None) -> Path:
    """Where models of benchmarks are made."""
    return scratch or load_settings(state_dir=state_dir).state_dir / "bench"


def say_plan(path: Path, settings: LlamaSettings | None = None) -> None:
    """Where the model goes on this machine."""
    _say(f"plan: {plan_placement(path, settings or LlamaSettings())}")


def _say_engine_plan(path: Path, n_threads: int) -> None:
    """How our own engine is run, as it is by default."""
    _say(f"plan: {describe_plan(resolve_model(str(path), Path()), n_threads=n_threads)}")


def _say(text: str) -> None:
    err.print(f"[dim]{text}[/]", highlight=False)


def _say_measured(workload: str, name: str, measured: Measured) -> None:
    _say(f"{workload} {name}: {measured.wall_s:.2f} s, {measured.cpu_s:.2f} CPU-s")


def _surroundings(n_threads: int) -> str:
    around = Surroundings(n_threads=n_threads)
    return (
        f"  [dim]{n_threads} threads on {around.n_cores} cores, load {around.load:.1f}: on a busy "
        "machine compare CPU-seconds[/]"
    )


def _comparison_table(comparison: Comparison) -> Table:
    workload, roof = comparison.workload, comparison.roofline
    table = _table(f"{workload.name}: {workload.n_jobs} jobs over {workload.n_chunks} chunks")
    table.add_column("")
    for heading in ("wall s", "CPU s", "read", "written", "peak MB", "x wall", "x CPU"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, measured in comparison.engines.items():
        wall, cpu = comparison.ratio(name) or (1.0, 1.0)
        table.add_row(name, *_measured_cells(measured), f"{wall:.2f}", f"{cpu:.2f}")
    ours = comparison.engines[comparing.OURS]
    table.add_row(
        f"roofline ({100 * roof.cpu_s / ours.cpu_s:.0f}% reached)",
        f"{roof.wall_s:.2f}",
        f"{roof.cpu_s:.2f}",
    )
    return table


def _measured_cells(measured: Measured) -> Sequence[str]:
    return (
        f"{measured.wall_s:.2f}",
        f"{measured.cpu_s:.2f}",
        f"{measured.prefill_tokens:,}",
        f"{measured.output_tokens:,}",
        f"{measured.peak_rss_bytes / 1e6:.0f}",
    )


def _followup_table(found: FollowUp) -> Table:
    table = _table(f"{found.n_tasks} tasks a question; {found.stored_bytes / 1e6:.0f} MB on disk")
    for heading in ("", "wall s", "CPU s", "prefilled", "written", "of first (wall)", "(CPU)"):
        table.add_column(heading, justify="left" if not heading else "right")
    first = found.rounds[0]
    for each in found.rounds:
        table.add_row(
            each.name,
            f"{each.wall_s:.2f}",
            f"{each.cpu_s:.2f}",
            f"{each.prefill_tokens:,}",
            f"{each.output_tokens:,}",
            f"{each.wall_s / first.wall_s:.2f}",
            f"{each.cpu_s / first.cpu_s:.2f}",
        )
    return table


def _decode_table(rates: Sequence[decoding.DecodeRate], theirs: Mapping[int, float]) -> Table:
    table = _table("decoding, tokens a second")
    headings = ("at a time", "ours", "llama.cpp alone", "ours / CPU-s", "alone / CPU-s")
    for heading in (*headings, "batched-bench") if theirs else headings:
        table.add_column(heading, justify="right")
    for rate in rates:
        figures = [rate.ours_per_s, rate.bare_per_s, rate.ours_per_cpu_s, rate.bare_per_cpu_s]
        figures += [theirs[rate.n_sequences]] if theirs else []
        table.add_row(f"{rate.n_sequences}", *(f"{figure:.1f}" for figure in figures))
    return table


def _python_table(rates: Sequence[decoding.DecodeRate]) -> Table:
    table = _table("Python outside llama_decode, milliseconds of CPU a step")
    headings = ("at a time", "greedy", "with a favourite", "drawn", "argmax alone")
    for heading in headings:
        table.add_column(heading, justify="right")
    for rate in rates:
        table.add_row(
            f"{rate.n_sequences}",
            f"{rate.python_ms_per_step:.2f}",
            f"{rate.python_ms_per_sure_step:.2f}",
            f"{rate.python_ms_per_drawn_step:.2f}",
            f"{rate.reading_ms_per_step:.2f}",
        )
    return table


def _facts_table(facts: Mapping[str, Any]) -> Table:
    table = _table("gpt-oss-20b, random weights")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in facts.items():
        shown = f"{value / 1e9:.2f} GB" if name.endswith("_bytes") else value
        table.add_row(name, f"{shown:.2f}" if isinstance(shown, float) else str(shown))
    return table


def _table(title: str) -> Table:
    return Table(title=title, box=None, padding=(0, 1), header_style="dim", title_justify="left")
