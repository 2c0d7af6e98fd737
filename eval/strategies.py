"""Strategies as a run compares them: a label, and what the product is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from eval.rows import StrategySpec
from minions.errors import BadRequest
from minions.question import WITHOUT_WORKERS, Options, Question, StrategyName
from router import Rung


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """One way to answer, under the label that rows carry."""

    label: str
    options: Options

    @property
    def spec(self) -> StrategySpec:
        """As a manifest keeps it."""
        told = Question(text="", document_ids=(), options=self.options).to_json()
        wishes = {name: told[name] for name in told if name not in ("question", "documents")}
        return StrategySpec(label=self.label, options=wishes)

    @property
    def needs_worker(self) -> bool:
        return self.options.strategy not in WITHOUT_WORKERS

    @property
    def needs_cloud(self) -> bool:
        """The ladder does not, unless it must buy a certain rung: without a cloud it stays on its
        lowest one."""
        free = self.options.strategy in (StrategyName.LOCAL, StrategyName.LADDER)
        return not free or self.options.rung is not None

    @property
    def labels_rungs(self) -> bool:
        """Whether its rows say what the router's own rungs are worth. `rag`, `minion` and `minions`
        send other things, under the same ceiling."""
        return self.options.strategy in (
            StrategyName.LOCAL,
            StrategyName.LADDER,
            StrategyName.CLOUD,
        )


def parse_strategies(texts: Sequence[str], common: Options) -> tuple[Strategy, ...]:
    """`local`, `ladder@0.97`, `ladder/0.05`, `ladder:evidence` and so on, each with the options in
    `common`.

    `ladder/USD` takes a right answer to be worth so much, and buys what pays off. `ladder:RUNG`
    buys that rung for every question, so that the router can learn what it is worth. Raises
    BadRequest for an unknown name or detail, or a label that is given twice."""
    parsed = tuple(_parse(text, common) for text in texts)
    labels = [strategy.label for strategy in parsed]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise BadRequest(f"Strategy `{twice[0]}` is given twice.")
    return parsed


def _parse(text: str, common: Options) -> Strategy:
    name, mark, detail = _parts(text)
    if name not in list(StrategyName):
        raise BadRequest(
            f"--strategy {text!r}: there is {', '.join(StrategyName)}, ladder@TARGET, ladder/USD "
            "and ladder:RUNG."
        )
    strategy = StrategyName(name)
    if mark and strategy is not StrategyName.LADDER:
        raise BadRequest(f"--strategy {text!r}: only the ladder has a target, value or rung.")
    options = replace(common, strategy=strategy)
    label = name
    if mark == ":":
        options, label = replace(options, rung=_rung(text, detail)), text
    elif mark == "/":
        value = _value_usd(text, detail)
        options, label = replace(options, value_usd=value, target=1.0), f"ladder/{value}"
    elif strategy is StrategyName.LADDER:
        options = replace(options, target=_target(text, detail) if mark else common.target)
        label = f"ladder@{options.target:g}"
    options.check()
    return Strategy(label=label, options=options)


def _parts(text: str) -> tuple[str, str, str]:
    """(name, `@`, `/`, `:` or nothing, what follows)."""
    mark = next((each for each in text if each in "@/:"), "")
    name, _, detail = text.partition(mark) if mark else (text, "", "")
    return name, mark, detail


def _value_usd(text: str, usd: str) -> Decimal:
    try:
        value = Decimal(usd)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or value <= 0:
        raise BadRequest(f"--strategy {text!r}: a right answer is worth dollars, such as 0.05.")
    return value


def _rung(text: str, rung: str) -> Rung:
    bought = Rung.LOCAL.above
    if rung not in bought:
        raise BadRequest(f"--strategy {text!r}: the rungs to buy are {', '.join(bought)}.")
    return Rung(rung)


def _target(text: str, target: str) -> float:
    try:
        value = float(target)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise BadRequest(f"--strategy {text!r}: the target is a chance from 0 to 1, such as 0.97.")
    return value
