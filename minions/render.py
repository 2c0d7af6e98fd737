"""How replies, estimates and progress look in a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from minions.documents import Document
from minions.estimate import Estimate
from minions.events import (
    CloudDelta,
    DraftChanged,
    Event,
    JobEnded,
    ReadingStarted,
    RungChosen,
)
from minions.evidence.model import Citation
from minions.offers import NO_CLOUD
from minions.question import OfferView, Receipt, Reply
from workers import JobStatus

MAX_CITATIONS = 3


def usd(amount: Decimal | None) -> str:
    """Dollars for people: as many decimals as the amount needs, `unknown` for None."""
    if amount is None:
        return "unknown"
    if amount == 0:
        return "$0"
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.6f}".rstrip("0")


def reply_view(reply: Reply) -> RenderableType:
    """The whole reply: answer, citations, where it came from, receipt, ladder."""
    parts: list[RenderableType] = [Padding(_answer(reply), (1, 2, 0, 2))]
    parts += [Padding(_citation(c), (1, 2, 0, 4)) for c in reply.citations[:MAX_CITATIONS]]
    if len(reply.citations) > MAX_CITATIONS:
        more = len(reply.citations) - MAX_CITATIONS
        parts.append(Padding(f"[dim]and {more} more citations (--json shows all)", (1, 0, 0, 4)))
    parts.append(Padding(_facts(reply), (1, 2, 0, 2)))
    parts += [Padding(f"[yellow]![/] {escape(w)}", (0, 2)) for w in reply.warnings]
    return Padding(Group(*parts), (0, 0, 1, 0))


def _answer(reply: Reply) -> RenderableType:
    if reply.answer is None:
        return Text("No answer was found in the document.", style="bold yellow")
    return Text(reply.answer, style="bold green")


def _citation(citation: Citation) -> RenderableType:
    quote = " ".join(citation.quote.split())
    place = f"{citation.document_name}, page {citation.page}"
    if citation.headings is not None:
        place += f", table: {' / '.join(citation.headings)}"
    return Group(Text(f"“{quote}”", style="italic"), Text(place, style="dim"))


def _facts(reply: Reply) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    source = "uncalibrated prior" if reply.p_correct_source == "prior" else reply.p_correct_source
    grid.add_row("rung", f"[bold]{reply.rung}[/]: {escape(reply.reason)}")
    grid.add_row("P(correct)", f"{reply.p_correct:.2f} ({source})")
    jobs = reply.jobs
    grid.add_row(
        "coverage",
        f"{reply.coverage:.1%} read; jobs: {jobs.answered} answered, {jobs.abstained} abstained, "
        f"{jobs.failed} failed" + (f", {jobs.skipped} skipped" if jobs.skipped else ""),
    )
    grid.add_row("receipt", _receipt(reply.receipt))
    for i, offer in enumerate(reply.offers):
        grid.add_row("ladder" if i == 0 else "", _offer(offer))
    if any(offer.closed == NO_CLOUD for offer in reply.offers):
        grid.add_row("", "[dim]to climb, give --cloud-url, or a key in OPENAI_API_KEY[/]")
    grid.add_row("trace", f"{reply.trace_id} [dim](minions trace {reply.trace_id})[/]")
    return grid


def _receipt(receipt: Receipt) -> str:
    ratio = receipt.savings_ratio
    saved = "unknown" if ratio is None else f"{ratio:.1%}"
    return (
        f"cloud [bold]{usd(receipt.cloud_usd)}[/] ({receipt.cloud_tokens:,} tokens); the cloud "
        f"alone {usd(receipt.cloud_only_usd)}; saved [bold]{saved}[/]; "
        f"{receipt.local_tokens:,} tokens read locally{_hidden(receipt)}"
    )


def _hidden(receipt: Receipt) -> str:
    """What was redacted, by kind."""
    listed = ", ".join(f"{n} {kind}" for kind, n in receipt.redacted.items())
    return f"; hidden from the cloud: {listed}" if listed else ""


def _offer(offer: OfferView) -> str:
    line = f"{offer.rung}: about {usd(offer.expected_usd)} for {offer.prompt_tokens:,} tokens"
    if offer.prompt_tokens == 0:
        line = f"{offer.rung}"
    return f"{line} [dim]({escape(offer.closed)})[/]" if offer.closed else line


def estimate_view(quote: Estimate) -> RenderableType:
    """A table of the rungs."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("rung", "cloud sees", "expected", "at most"):
        table.add_column(heading, justify="left" if heading == "rung" else "right")
    for rung in quote.rungs:
        sees = f"{'' if rung.exact else '≤ '}{rung.prompt_tokens:,} tokens"
        table.add_row(rung.rung, sees, usd(rung.expected_usd), usd(rung.worst_usd))
    head = (
        f"{quote.n_pages} pages, {quote.document_tokens:,} tokens, about {quote.n_chunks} chunks "
        f"for the worker; cloud {quote.cloud_model}, {quote.price_snapshot}"
    )
    return Padding(Group(Text(head), Text(""), table), (1, 2))


def document_line(document: Document, elapsed_s: float) -> str:
    """One line on a file that was read."""
    rate = len(document.pages) / elapsed_s if elapsed_s > 0 else 0
    return (
        f"read {document.name}: {len(document.pages)} pages, {len(document.text):,} characters, "
        f"{elapsed_s:.1f} s ({rate:.0f} pages/s)"
    )


class ProgressView:
    """Turns events into a bar on stderr; where that is no terminal, into a few plain lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tally]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._tally = dict.fromkeys(JobStatus, 0)
        self._n_jobs = 0
        self._draft: str | None = None
        self._began = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[ProgressView]:
        if not self._live:
            yield self
            return
        with self._bar:
            yield self

    def __call__(self, event: Event) -> None:
        if isinstance(event, ReadingStarted):
            self._reading_started(event)
        elif isinstance(event, JobEnded):
            self._job_ended(event)
        elif isinstance(event, DraftChanged):
            self._draft_changed(event)
        elif isinstance(event, RungChosen):
            step = f"asking the cloud at `{event.rung}`" if event.rung else "keeping the answer"
            self._console.print(f"[dim]{step}: {escape(event.reason)}[/]")
        elif isinstance(event, CloudDelta):
            return  # a terminal shows the checked answer, not its preview

    def _reading_started(self, event: ReadingStarted) -> None:
        n_known = event.n_resumed + event.n_cached
        self._n_jobs, self._began = event.n_jobs - n_known, time.monotonic()
        if event.n_resumed:
            self._console.print(
                f"[dim]taking up an unfinished run: {event.n_resumed} of {event.n_jobs} jobs were "
                "done already[/]"
            )
        if event.n_cached:
            self._console.print(
                f"[dim]{event.n_cached} of {event.n_jobs} chunks were read for this question "
                "before (--fresh reads again)[/]"
            )
        if self._live:
            self._task = self._bar.add_task("reading", total=self._n_jobs, tally="")

    def _draft_changed(self, event: DraftChanged) -> None:
        """A first answer while reading goes on; only where somebody watches."""
        if not self._live or event.answer == self._draft:
            return
        self._draft = event.answer
        place = f", page {event.citations[0].page}" if event.citations else ""
        self._console.print(
            f"[dim]so far ({event.coverage:.0%} read{place}, P {event.p_correct:.2f}):[/] "
            f"{escape(event.answer)}"
        )

    def _job_ended(self, event: JobEnded) -> None:
        if event.cached:
            return
        self._tally[event.status] += 1
        done = sum(self._tally.values())
        tally = ", ".join(f"{n} {status}" for status, n in self._tally.items() if n)
        if self._task is not None:
            self._bar.update(self._task, completed=done, tally=tally)
        if done == self._n_jobs:
            elapsed_s = time.monotonic() - self._began
            self._console.print(f"[dim]{done} jobs in {elapsed_s:.1f} s: {tally}[/]")
