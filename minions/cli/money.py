"""`minions savings` and `minions egress`."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from minions.app import App, open_app
from minions.cli.common import JsonOption, StateOption, out
from minions.egress import EgressReport, document_ids, iso
from minions.errors import BadRequest, NotFound
from minions.render import usd
from minions.savings import METHOD, NO_RATES, LocalRates, QuestionSavings, Savings, day_start
from minions.savings import savings as work_out
from minions.settings import Settings, load_settings
from minions.store.model import EgressEntry

ALL_RUNS = 1_000_000
MAX_SHOWN = 20
MAX_QUESTION_CHARS = 48


def savings(
    as_json: JsonOption = False,
    since: Annotated[
        str | None, typer.Option(help="Only questions asked from this UTC day on.", metavar="DATE")
    ] = None,
    state_dir: StateOption = None,
) -> None:
    """What was paid, what the cloud alone would have cost, and what this machine cost."""
    settings = load_settings(state_dir=state_dir)
    result = asyncio.run(_savings(settings, _since(since)))
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        out.print(_savings_view(result))


async def _savings(settings: Settings, since: float | None) -> Savings:
    rates = LocalRates(
        watts=settings.local_watts,
        usd_per_kwh=settings.usd_per_kwh,
        card_usd_per_hour=settings.card_usd_per_hour,
    )
    async with open_app(settings) as app:
        ledger, runs = await app.store.ledger(), await app.store.list_runs(ALL_RUNS)
    return work_out(ledger, runs, rates, since)


def _since(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return day_start(text)
    except ValueError:
        raise BadRequest(f"--since must be a day such as 2025-01-31, not {text!r}.") from None


def _savings_view(result: Savings) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("question", "rung"):
        table.add_column(heading)
    for heading in ("paid", "cloud alone", "saved"):
        table.add_column(heading, justify="right")
    for question in result.questions[:MAX_SHOWN]:
        table.add_row(*_question_cells(question))
    hidden = len(result.questions) - MAX_SHOWN
    more = [f"[dim]and {hidden} more (--json shows all)[/]"] if hidden > 0 else []
    return Padding(Group(table, *more, Text(""), _sums(result)), (1, 2))


def _question_cells(row: QuestionSavings) -> tuple[str, ...]:
    text = " ".join((row.question or row.run_id).split())
    short = text if len(text) <= MAX_QUESTION_CHARS else text[: MAX_QUESTION_CHARS - 1] + "…"
    outcome = (row.rung or "") if row.finished else "no outcome"
    alone = usd(row.cloud_only_usd) if row.finished else "-"
    return escape(short), outcome, usd(row.cloud_usd), alone, _signed(row)


def _signed(row: QuestionSavings) -> str:
    saved = row.saved_usd
    if not row.finished:
        return "-"
    return f"-{usd(-saved)}" if saved is not None and saved < 0 else usd(saved)


def _sums(result: Savings) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    ratio, saved = result.savings_ratio, result.saved_usd
    share = "nothing to compare with" if ratio is None else f"{ratio:.1%}"
    grid.add_row("paid", usd(result.cloud_usd))
    grid.add_row("cloud alone", f"{usd(result.cloud_only_usd)} ({len(result.compared)} questions)")
    grid.add_row("saved", f"[bold]{'-' if saved < 0 else ''}{usd(abs(saved))}[/] ({share})")
    if result.unknown:
        grid.add_row("unknown", f"{len(result.unknown)} questions are in no sum")
    if result.audit_usd or result.n_audits_unpriced:
        lacking = f"; {result.n_audits_unpriced} unknown" if result.n_audits_unpriced else ""
        grid.add_row("audits", f"{usd(result.audit_usd)}, beside all this{lacking}")
    grid.add_row("this machine", _local(result))
    grid.add_row("method", METHOD)
    return grid


def _local(result: Savings) -> str:
    if result.local_usd_per_hour is None:
        return NO_RATES
    seconds = sum(question.local_s or 0.0 for question in result.questions)
    lacking = f"; {result.n_unmeasured} questions not measured" if result.n_unmeasured else ""
    rate = usd(result.local_usd_per_hour)
    return f"{usd(result.local_usd)} ({seconds:,.1f} s of reading at {rate} per hour{lacking})"


def egress(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Id of a question's run; default: all.")
    ] = None,
    as_json: JsonOption = False,
    show: Annotated[bool, typer.Option("--show", help="Print the content of each call.")] = False,
    state_dir: StateOption = None,
) -> None:
    """What left this machine: when, where to, why, how many bytes, and of which documents."""
    settings = load_settings(state_dir=state_dir)
    report = asyncio.run(_egress(settings, run))
    if as_json:
        typer.echo(json.dumps(report.to_json(show=show), indent=2, ensure_ascii=False))
    else:
        out.print(_egress_view(report, show=show))


async def _egress(settings: Settings, run_id: str | None) -> EgressReport:
    """Raises NotFound for an unknown run."""
    async with open_app(settings) as app:
        if run_id is not None:
            await app.store.get_run(run_id)
        calls = await app.store.egress(run_id)
        names = {i: name for i in document_ids(calls) if (name := await _name(app, i))}
        return EgressReport(calls=tuple(calls), names=names)


async def _name(app: App, document_id: str) -> str | None:
    try:
        return (await app.store.get_document(document_id)).name
    except NotFound:
        return None


def _egress_view(report: EgressReport, *, show: bool) -> RenderableType:
    if not report.calls:
        return Padding("Nothing has left this machine.", (1, 2))
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("when (UTC)", "run", "purpose", "bytes", "pieces", "to"):
        is_number = heading in ("bytes", "pieces")
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for call in report.calls:
        table.add_row(*_call_cells(call))
    documents = [
        Text(f"{d.name or d.document_id}: {d.n_chars:,} characters (calls: {d.n_calls})")
        for d in report.documents
    ]
    total = Text(f"in all: {report.n_bytes:,} bytes (calls: {len(report.calls)})")
    contents = [_content(call) for call in report.calls] if show else []
    return Padding(Group(table, Text(""), *documents, total, *contents), (1, 2))


def _call_cells(call: EgressEntry) -> tuple[str, ...]:
    return (
        iso(call.created_at),
        call.run_id,
        call.rung,
        f"{len(call.content):,}",
        f"{len(call.spans)}",
        escape(call.destination),
    )


def _content(call: EgressEntry) -> Text:
    """As it left, but for control characters, which could direct the terminal (--json has them)."""
    head = f"\n--- {call.run_id} {call.rung} {iso(call.created_at)}\n"
    content = call.content.decode(errors="replace")
    return Text(head + "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in content))
