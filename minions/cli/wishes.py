"""Options of the command line that say how a question is to be answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minions.question import StrategyName
from router import Rung
from workers import Effort

StrategyOption = Annotated[StrategyName, typer.Option(help="How to answer.")]
PrivacyOption = Annotated[Rung, typer.Option(help="The most that the cloud may ever see.")]
MaxCostOption = Annotated[
    str | None, typer.Option(help="Hard cap in dollars on what the cloud may cost.")
]
TargetOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="P(correct) that is good enough.")
]
ValueOption = Annotated[
    str | None,
    typer.Option(help="What a right answer is worth to you; buys what pays off, no more."),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        min=0.001, max=0.999, help="Loss against the cloud alone that is accepted (calibrated)."
    ),
]
LatencyOption = Annotated[
    float | None, typer.Option(min=0, help="Buy nothing that would answer later than this.")
]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="Fitted chances (minions eval calibrate).")
]
RedactOption = Annotated[
    bool | None, typer.Option(help="Hide e-mails, phone, card and bank numbers from the cloud.")
]
StopEarlyOption = Annotated[
    bool,
    typer.Option(
        "--stop-early", help="Stop reading once the answer reaches the target; says what was read."
    ),
]
RungOption = Annotated[
    Rung | None, typer.Option(help="Buy exactly this rung, whatever the chances.")
]
EffortOption = Annotated[
    Effort, typer.Option(help="How long the workers reason over each chunk (gpt-oss).")
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Read again what was read for this question before.")
]
