"""What the commands share: consoles, option types, and how errors reach people."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from minions.errors import BadRequest, MinionsError
from workers import WorkerError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Worker: nano, gpt-oss-20b, a .gguf path, or a server's URL."),
]
CloudOption = Annotated[
    str | None, typer.Option("--cloud", help="Cloud model, e.g. gpt-4.1.", metavar="MODEL")
]
CloudUrlOption = Annotated[
    str | None, typer.Option("--cloud-url", help="Base URL of an OpenAI-style API.")
]
StateOption = Annotated[
    Path | None, typer.Option("--state-dir", help="Where documents, runs and ledger are kept.")
]
PoolOption = Annotated[
    str | None, typer.Option("--pool", help="inline: read here; ray: on all nodes of a cluster.")
]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", help="Head of the cluster.", metavar="HOST:PORT")
]
ChunkOption = Annotated[
    int | None, typer.Option("--chunk-tokens", help="Tokens per chunk (worker's tokenizer).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
FilesAndQuestion = Annotated[
    list[str], typer.Argument(metavar='FILE... "QUESTION"', help="Files, then the question.")
]


def split_question(arguments: list[str]) -> tuple[list[Path], str]:
    """`FILE... "QUESTION"` as paths and a question. Raises BadRequest naming what is missing."""
    *files, question = arguments
    if not files:
        hint = "the question" if Path(question).exists() else "a file before the question"
        raise BadRequest(
            f"Give at least one file and a question; {hint} is missing: "
            'minions ask report.pdf "What was the revenue?"'
        )
    if not question.strip():
        raise BadRequest("The question is empty. Put it last, in quotes.")
    if Path(question).is_file():
        raise BadRequest(
            f"The last argument, {question}, is a file; the question must come last, in quotes."
        )
    return [Path(file) for file in files], question.strip()


def dollars(option: str, text: str | None) -> Decimal | None:
    """An option's value as exact dollars. Raises BadRequest unless it is a number from 0 up."""
    if text is None:
        return None
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise BadRequest(f"{option} must be dollars such as 0.05, not {text!r}.")
    return amount


@contextmanager
def errors_for_people() -> Iterator[None]:
    """Errors that we raise on purpose become one line on stderr; defects keep their traceback."""
    try:
        yield
    except (MinionsError, WorkerError) as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(EXIT_FAILED)


def run_resumable(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C stops it with what is done on disk, and says how to go on."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        err.print("[yellow]stopped.[/] Nothing is lost: the same command goes on from here.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
