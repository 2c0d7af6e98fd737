"""`minions plan-capacity`: how many cards a load needs, what it answers in, and what that costs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from eval.capacity import Arrivals, Card, CloudShare, Costs, Load, Plan, fewest_cards, plan
from minions.cli.common import JsonOption, err, out
from minions.errors import BadRequest
from minions.question import as_number

if TYPE_CHECKING:
    from eval.capacity_check import Agreement

DECIMALS = 6


Documents = Annotated[float, typer.Option(min=0.01, help="Documents per day.")]
Pages = Annotated[float, typer.Option(min=0.01, help="Pages per document.")]
Questions = Annotated[float, typer.Option(min=0.01, help="Questions per document.")]
When = Annotated[Arrivals, typer.Option(help="When documents come.")]
RunOption = Annotated[
    Path | None, typer.Option(help="Folder of `eval run`: its rates and its cloud share.")
]
PrefillRate = Annotated[
    float | None, typer.Option(min=0.001, help="Prefilled tokens per second, as measured.")
]
DecodeRate = Annotated[
    float | None, typer.Option(min=0.001, help="Generated tokens per second, all slots.")
]
Cards = Annotated[
    list[str] | None,
    typer.Option(
        help="A card and its two rates, or N of them; may be repeated.",
        metavar="[Nx]NAME=PREFILL/DECODE",
    ),
]
Gpus = Annotated[int, typer.Option(min=1, help="Cards of --prefill-rate or --run.")]
MaxLatency = Annotated[
    float | None,
    typer.Option(min=0.1, help="Say how many cards answer 95% of the questions within this."),
]
TokensPerPage = Annotated[float, typer.Option(min=1, help="Of the worker's own tokenizer.")]
ChunkTokens = Annotated[int, typer.Option(min=64, help="Tokens per chunk.")]
OutputTokens = Annotated[
    float | None, typer.Option(min=0, help="Generated per chunk; default: the run's, or 60.")
]
Reuse = Annotated[
    float, typer.Option(min=0, max=1, help="Share of a chunk that follow-ups find in memory.")
]
Watts = Annotated[float, typer.Option(min=0, help="Of a card while it reads.")]
IdleWatts = Annotated[float, typer.Option(min=0, help="Of a card while it waits.")]
PowerPrice = Annotated[float | None, typer.Option(min=0, help="Price of power.")]
CardPrice = Annotated[float, typer.Option(min=0, help="Price of a card.")]
CardYears = Annotated[float, typer.Option(min=0.1, help="Years that the price is spread over.")]
CloudAsked = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of questions the cloud is asked.")
]
CloudUsd = Annotated[
    float | None, typer.Option(min=0, help="Dollars per question, averaged over all.")
]
Days = Annotated[int, typer.Option(min=1, max=60, help="Simulated, after one to warm up.")]
Seed = Annotated[int, typer.Option(help="Seed of the arrivals.")]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Compare the simulation with a real pool first.")
]


def plan_capacity(
    documents: Documents = 50,
    pages: Pages = 100,
    questions: Questions = 3,
    arrivals: When = Arrivals.OFFICE,
    run: RunOption = None,
    prefill_rate: PrefillRate = None,
    decode_rate: DecodeRate = None,
    card: Cards = None,
    gpus: Gpus = 1,
    max_latency_s: MaxLatency = None,
    tokens_per_page: TokensPerPage = 600,
    chunk_tokens: ChunkTokens = 1500,
    output_tokens: OutputTokens = None,
    reuse: Reuse = 0.0,
    watts: Watts = 300,
    idle_watts: IdleWatts = 20,
    usd_per_kwh: PowerPrice = None,
    card_usd: CardPrice = 0,
    card_years: CardYears = 3,
    cloud_share: CloudAsked = None,
    cloud_usd: CloudUsd = None,
    days: Days = 3,
    seed: Seed = 0,
    check: CheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Documents and questions per day to cards, waiting times and dollars, by simulation."""
    load = Load(
        documents_per_day=documents,
        pages_per_document=pages,
        questions_per_document=questions,
        arrivals=arrivals,
        tokens_per_page=tokens_per_page,
        chunk_tokens=chunk_tokens,
        reuse=reuse,
    )
    cards, load, cloud = _measured(run, prefill_rate, decode_rate, card or [], gpus, load)
    if output_tokens is not None:
        load = replace(load, output_tokens=output_tokens)
    cards = [replace(c, watts=watts, idle_watts=idle_watts, usd=card_usd) for c in cards]
    answer = Answer(
        load=load,
        cloud=_stated(cloud, cloud_share, cloud_usd),
        costs=Costs(usd_per_kwh=usd_per_kwh, card_years=card_years),
        agreement=_check(seed) if check else None,
        max_latency_s=max_latency_s,
    )
    found = plan(load, cards, cloud=answer.cloud, costs=answer.costs, days=days, seed=seed)
    answer.show(found, as_json=as_json)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was asked of the plan, and how it is shown."""

    load: Load
    cloud: CloudShare
    costs: Costs
    agreement: Agreement | None
    max_latency_s: float | None

    def show(self, found: Plan, *, as_json: bool) -> None:
        """Print the plan, with the number of cards that the latency limit needs."""
        needed, limit = None, self.max_latency_s
        if limit is not None:
            needed = fewest_cards(self.load, found.cards[0], limit, cloud=self.cloud)
        if as_json:
            figures = _figures(self.load, self.cloud, found, needed, self.agreement)
            typer.echo(json.dumps(figures, indent=2))
            return
        if self.agreement is not None:
            _show_agreement(self.agreement)
        _show(self.load, self.cloud, found)
        if limit is not None:
            _show_needed(found.cards[0], needed, limit)


def _measured(
    run: Path | None,
    prefill_rate: float | None,
    decode_rate: float | None,
    named: list[str],
    gpus: int,
    load: Load,
) -> tuple[list[Card], Load, CloudShare]:
    """The cards as given in one of three ways, the load with what the run measured of it, and the
    run's cloud share. Raises BadRequest for none or several ways, or half of one."""
    ways = [run is not None, prefill_rate is not None or decode_rate is not None, bool(named)]
    if sum(ways) != 1:
        raise BadRequest(
            "Say how fast a card reads, in one way: --run FOLDER, or --prefill-rate and "
            "--decode-rate, or --card NAME=PREFILL/DECODE."
        )
    if named:
        return [each for text in named for each in parse_card(text)], load, CloudShare()
    if run is not None:
        return _from_run(run, gpus, load)
    if prefill_rate is None or decode_rate is None:
        raise BadRequest("--prefill-rate and --decode-rate belong together: give both.")
    return [_card("card", prefill_rate, decode_rate)] * gpus, load, CloudShare()


def _from_run(run: Path, gpus: int, load: Load) -> tuple[list[Card], Load, CloudShare]:
    from eval.capacity_rates import rates_of
    from eval.rows import read_run

    rates = rates_of(read_run(run))
    err.print(
        f"[dim]{rates.n_readings} readings: {rates.prefill_tokens_per_s:,.0f} tokens/s prefilled, "
        f"{rates.decode_tokens_per_s:,.0f} tokens/s generated ({rates.explained:.0%} of their "
        "time explained)[/]"
    )
    cards = [_card(run.name, rates.prefill_tokens_per_s, rates.decode_tokens_per_s)] * gpus
    return cards, replace(load, output_tokens=rates.output_tokens), rates.cloud


def parse_card(text: str) -> list[Card]:
    """`4090=2800/180` or `2x4090=2800/180`. Raises BadRequest."""
    name, _, rates = text.partition("=")
    count, _, rest = name.partition("x")
    n, label = (int(count), rest) if count.isdigit() and rest else (1, name)
    prefill, _, decode = rates.partition("/")
    try:
        numbers = float(prefill), float(decode)
    except ValueError:
        numbers = 0.0, 0.0
    if not label or n < 1 or not all(0 < number < float("inf") for number in numbers):
        raise BadRequest(
            f"--card {text!r} is not of the form NAME=PREFILL/DECODE in tokens per second, such as "
            "4090=2800/180, or 2x4090=2800/180 for two."
        )
    return [_card(label, *numbers)] * n


def _card(name: str, prefill: float, decode: float) -> Card:
    return Card(name=name, prefill_tokens_per_s=prefill, decode_tokens_per_s=decode)


def _stated(cloud: CloudShare, share: float | None, usd: float | None) -> CloudShare:
    """What was said on the command line goes before what was measured; a share without its price
    makes the dollars unknown."""
    if share is not None:
        cloud = replace(cloud, share=share, usd_per_question=None if share else 0.0)
    return cloud if usd is None else replace(cloud, usd_per_question=usd)


def _check(seed: int) -> Agreement:
    from eval.capacity_check import check_pool

    return asyncio.run(check_pool(seed=seed))


def _figures(
    load: Load, cloud: CloudShare, found: Plan, needed: int | None, agreement: Agreement | None
) -> dict[str, Any]:
    money = ("electricity_usd_per_day", "cards_usd_per_day", "cloud_usd_per_day", "usd_per_day")
    return {
        "load": {**asdict(load), "chunks_per_document": load.chunks},
        "cards": [asdict(card) for card in found.cards],
        "cloud": asdict(cloud),
        "offered": round(found.offered, DECIMALS),
        "utilisation": round(found.utilisation, DECIMALS),
        "peak": round(found.peak, DECIMALS),
        "n_questions": found.n_questions,
        "latency_s": found.latency_s and {str(q): round(s, 3) for q, s in found.latency_s.items()},
        "mean_latency_s": found.mean_latency_s and round(found.mean_latency_s, 3),
        **{name: as_number(getattr(found, name)) for name in money},
        "chunks_per_event": found.chunks_per_event,
        "cards_needed": needed,
        "check": agreement and {**asdict(agreement), "ratio": agreement.ratio},
    }


def _show(load: Load, cloud: CloudShare, found: Plan) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("load", _load_text(load))
    grid.add_row("cards", ", ".join(card.name for card in found.cards))
    grid.add_row("work", f"{found.offered:.1%} of what the cards can do, {found.peak:.1%} at peak")
    grid.add_row("reading", f"{found.utilisation:.1%} of their time")
    grid.add_row("answers in", _latency_text(found))
    grid.add_row("cloud", f"asked for {cloud.share:.1%} of the questions")
    grid.add_row("dollars a day", _money_text(found))
    if found.chunks_per_event > 1:
        grid.add_row("grain", f"{found.chunks_per_event} chunks were simulated as one")
    out.print(grid)


def _load_text(load: Load) -> str:
    return (
        f"{load.questions_per_day:,.0f} questions a day about {load.documents_per_day:,.0f} "
        f"documents of {load.pages_per_document:,.0f} pages ({load.chunks} chunks), {load.arrivals}"
    )


def _latency_text(found: Plan) -> str:
    if found.latency_s is None:
        return "[bold red]ever longer times: more comes in than the cards can read[/]"
    shown = ", ".join(f"{s:,.1f} s ({q:.0%})" for q, s in found.latency_s.items())
    return f"{shown}; {found.n_questions:,} questions simulated"


def _money_text(found: Plan) -> str:
    def usd(amount: object) -> str:
        return "unknown" if amount is None else f"${amount:,.2f}"

    parts = (
        f"power {usd(found.electricity_usd_per_day)}",
        f"cards {usd(found.cards_usd_per_day)}",
        f"cloud {usd(found.cloud_usd_per_day)}",
    )
    return f"[bold]{usd(found.usd_per_day)}[/] ({', '.join(parts)})"


def _show_needed(card: Card, needed: int | None, max_latency_s: float) -> None:
    if needed is None:
        out.print(
            f"No number of cards answers 95% within {max_latency_s:g} s: one chunk, or the "
            "cloud, takes too long."
        )
    else:
        out.print(
            f"[bold]{needed}[/] x {card.name} answer 95% of the questions within "
            f"{max_latency_s:g} s"
        )


def _show_agreement(found: Agreement) -> None:
    table = Table("", "mean", "50%", "90%", "99%", box=None, header_style="dim")
    for name, mean, times in (
        ("real pool", found.measured_mean_s, found.measured_s),
        ("simulated", found.simulated_mean_s, found.simulated_s),
    ):
        table.add_row(name, *(f"{s * 1000:.0f} ms" for s in (mean, *times.values())))
    out.print(table)
    out.print(
        f"[dim]{found.n_jobs} jobs of {found.n_questions} questions, {found.service_s * 1000:.1f} "
        f"ms each: simulated over real {found.ratio:.2f}[/]"
    )
