"""Options of `minions eval run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eval.items import DatasetName

DatasetArgument = Annotated[DatasetName, typer.Argument(help="Which labelled questions.")]
DataOption = Annotated[
    Path | None, typer.Option(help="The dataset's folder or file; none for `generated`.")
]
StrategiesOption = Annotated[
    list[str] | None,
    typer.Option(
        help="local, cloud, rag, minion, minions, ladder@TARGET, ladder/USD (what an answer is "
        "worth) or ladder:RUNG. Again for more."
    ),
]
DocumentsOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many documents, drawn with --seed.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only so many items, each kind in its share.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of both draws.")]
FolderOption = Annotated[
    Path, typer.Option("--out", help="The run's folder; one that is there is gone on with.")
]
ParallelOption = Annotated[int, typer.Option(min=1, max=64, help="Items at the same time.")]
BudgetOption = Annotated[
    str | None, typer.Option(help="Hard stop: what this run may pay in dollars, all told.")
]
CacheOption = Annotated[bool, typer.Option(help="Keep the cloud's answers, and take kept ones.")]
RetryOption = Annotated[
    bool, typer.Option("--retry-errors", help="Ask again what ended in an error.")
]
JudgeOption = Annotated[
    str | None, typer.Option(help="Cloud model that judges answers, beside the rules.")
]
