"""Strategies as a run compares them: a label, and what the product is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eval.rows import StrategySpec
from minions.errors import BadRequest
from minions.question import WITHOUT_WORKERS, Options, Question, StrategyName


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
        """The ladder does not: without a cloud it stays on its lowest rung."""
        return self.options.strategy not in (StrategyName.LOCAL, StrategyName.LADDER)

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
    """`local`, `ladder@0.97` and so on, each with the options in `common`.

    Raises BadRequest for an unknown name, a wrong target, or a label that is given twice."""
    parsed = tuple(_parse(text, common) for text in texts)
    labels = [strategy.label for strategy in parsed]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise BadRequest(f"Strategy `{twice[0]}` is given twice.")
    return parsed


def _parse(text: str, common: Options) -> Strategy:
    name, at, target = text.partition("@")
    if name not in list(StrategyName):
        raise BadRequest(
            f"--strategy {text!r}: there is {', '.join(StrategyName)}, and ladder@TARGET."
        )
    strategy = StrategyName(name)
    if strategy is not StrategyName.LADDER:
        if at:
            raise BadRequest(f"--strategy {text!r}: only the ladder has a target.")
        return Strategy(label=name, options=replace(common, strategy=strategy))
    options = replace(common, strategy=strategy, target=_target(text, target or None, common))
    options.check()
    return Strategy(label=f"ladder@{options.target:g}", options=options)


def _target(text: str, target: str | None, common: Options) -> float:
    if target is None:
        return common.target
    try:
        value = float(target)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise BadRequest(f"--strategy {text!r}: the target is a chance from 0 to 1, such as 0.97.")
    return value
