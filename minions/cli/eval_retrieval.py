"""`minions eval retrieval`: how often the gold evidence is in the first chunks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from eval.retrieval import CHUNK_TOKENS, find_corpora, load_corpus, score_corpus
from minions.cli.common import JsonOption, err, out
from workers.vocabulary import TiktokenTokenizer


def retrieval(
    score: Annotated[
        Path,
        typer.Option(
            help="Folder of FinanceBench, QMSum, CUAD or COVID-QA, or one that holds several."
        ),
    ],
    as_json: JsonOption = False,
    chunk_tokens: Annotated[
        int, typer.Option(min=50, help="Tokens per chunk; the published figures have 1,000.")
    ] = CHUNK_TOKENS,
) -> None:
    """Rank each question's document without a model, beside BM25. Nothing is fitted.

    `any_at_5` is the share of the n questions with gold evidence in the first five chunks."""
    found = find_corpora(score)
    tokenizer = TiktokenTokenizer()
    figures: dict[str, dict[str, float]] = {}
    for name, folder in found.items():
        err.print(f"[dim]{name}: cutting and ranking ...[/]")
        figures[name] = score_corpus(load_corpus(name, folder), tokenizer, chunk_tokens)
    if as_json:
        # A dataset's own folder gives its figures, a folder of datasets each under its name.
        is_one = list(found.values()) == [score]
        typer.echo(json.dumps(next(iter(figures.values())) if is_one else figures, indent=2))
    else:
        out.print(_table(figures))


def _table(figures: dict[str, dict[str, float]]) -> Table:
    table = Table(box=None, padding=(0, 2))
    table.add_column("figure", style="dim")
    for name in figures:
        table.add_column(name, justify="right")
    for figure in next(iter(figures.values())):
        table.add_row(figure, *(f"{each[figure]:g}" for each in figures.values()))
    return table
