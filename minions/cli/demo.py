"""`minions demo`: a real contract, a real model on this machine, a simulated cloud."""

from __future__ import annotations

import asyncio
import tempfile
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from minions.app import open_app
from minions.cli.common import ModelOption, err, out
from minions.question import Options, Question
from minions.render import ProgressView, reply_view
from minions.settings import Settings, load_settings

QUESTIONS = (
    "Which state/country's law governs the interpretation of the contract?",
    "How many days does Vapotherm have to pay an invoice?",
)


def contract_path() -> Path:
    """The bundled contract (CC BY 4.0, see `demo/ATTRIBUTION.md`)."""
    return Path(str(resources.files("minions").joinpath("demo/contract.pdf")))


def demo(
    question: Annotated[str | None, typer.Argument(help="Ask this of the contract.")] = None,
    model: ModelOption = None,
) -> None:
    """Answer questions of a bundled 22-page contract. Needs no key, no network, no download.

    The reading is real: llama.cpp runs the bundled small model on this machine. The cloud is
    simulated on loopback, so that the ladder can be seen; its prices are those of a real model.
    """
    from minions.cloud.sim import SimPlan, running  # a server: only this command waits for it

    questions = (question,) if question else QUESTIONS
    with tempfile.TemporaryDirectory(prefix="minions-demo-") as folder, running(SimPlan()) as url:
        settings = load_settings(
            model=model, state_dir=Path(folder), cloud_url=url, cloud_api_key="simulated"
        )
        out.print(
            f"[dim]worker: {settings.model}, on this machine. cloud: a simulator at {url}, "
            f"billed as {settings.cloud_model}.[/]"
        )
        asyncio.run(_answer(settings, questions))


async def _answer(settings: Settings, questions: tuple[str, ...]) -> None:
    async with open_app(settings) as app:
        document = await app.add_file(contract_path())
        for text in questions:
            out.rule(f"[bold]{text}[/]", align="left", style="dim")
            options = Options(target=settings.target, redact=settings.redact)
            asked = Question(text=text, document_ids=(document.document_id,), options=options)
            with ProgressView(err).running() as view:
                reply = await app.desk.ask(asked, view)
            out.print(reply_view(reply))
