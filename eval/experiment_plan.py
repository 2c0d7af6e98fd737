"""The project's own experiment: which documents, which questions, in which order.

Generated documents and 30 CUAD contracts. On documents that are in no table the chances of the
worker and of every rung are learned; then all strategies answer the same questions side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from eval.calibrate import CalibrationReport, calibrate
from eval.claims import fit_on_runs
from eval.datasets import cuad, generated
from eval.datasets.registry import Dataset
from eval.items import DatasetCard, Item, ItemDocument, draw_items
from eval.labelled import read_labelled
from minions.app import App
from minions.errors import BadRequest
from minions.estimate import estimate
from minions.evidence.relevance import Profile
from minions.strategies.supervisor import MAX_ROUNDS
from router import Rung
from workers.nano.splits import document_rank, training_contracts

LEARN_STRATEGIES = ("local", "ladder:evidence", "ladder:passages", "cloud")
VALUES_USD = ("0.005", "0.01", "0.05", "0.25")
"""What a right answer is worth, for `ladder/V`."""
AIMED = "ladder/0.01"
"""The setting that the goal is asked of, declared before the test was run. It was chosen on other
documents: contracts 43 to 87 in the order of `load_experiment`, generated documents 200 to 225."""
STRATEGIES = (
    "local",
    "cloud",
    "rag",
    "minion",
    "minions",
    "ladder@0.75",
    "ladder@0.9",
    *(f"ladder/{value}" for value in VALUES_USD),
)
N_CONTRACTS = 30
N_LEARN_CONTRACTS = 24
N_GENERATED = 10
N_LEARN_GENERATED = 12
FIRST_GENERATED = 400
"""Number of the first generated document: no earlier run or setting saw it."""
PER_CONTRACT = 3
PER_GENERATED = 5
SEED = 1
"""Of the questions drawn per document."""
GOAL_ACCURACY, GOAL_COST = Decimal("0.979"), 1 / Decimal("30.4")
"""Of the cloud's: what the paper's best configuration kept and paid (arXiv 2502.15964)."""
CARD = DatasetCard(
    name="experiment",
    source="generated documents; CUAD v1 (The Atticus Project, arXiv 2103.06268)",
    licence="Apache-2.0; CUAD: CC BY 4.0",
    metric="token-F1 with the best gold answer; an abstention is right where there is none",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """Its two sets of questions, of different documents."""

    learn: Dataset
    """For the router's profile."""
    test: Dataset
    """For the tables."""
    n_held_out: int
    """Contracts of the test that the shipped worker was never trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """What the cloud would be paid for an experiment at most, if every answer came."""

    usd: Decimal
    n_questions: int
    document_tokens: int
    """Of all documents, each counted once."""


def load_experiment(cuad_folder: Path) -> Experiment:
    """The experiment's questions. Raises NotFound and BadRequest as the datasets do."""
    contracts = cuad.load(cuad_folder)
    names = sorted({item.document_name.removesuffix(".txt") for item in contracts})
    if len(names) < N_CONTRACTS + N_LEARN_CONTRACTS:
        raise BadRequest(
            f"{cuad_folder} holds {len(names)} contracts; the experiment needs "
            f"{N_CONTRACTS + N_LEARN_CONTRACTS}."
        )
    trained_on = training_contracts()
    # Those that the shipped worker never saw come first, and so into the test. The rest of the test
    # is from the other end: settings were tried on contracts in between.
    names.sort(key=lambda name: (name in trained_on, document_rank(name)))
    n_new = min(N_CONTRACTS, len(set(names) - trained_on))
    learn, rest = names[n_new : n_new + N_LEARN_CONTRACTS], names[n_new + N_LEARN_CONTRACTS :]
    test = names[:n_new] + rest[len(rest) - (N_CONTRACTS - n_new) :]
    made = generated.load(N_GENERATED + N_LEARN_GENERATED, FIRST_GENERATED)
    made_names = list(dict.fromkeys(item.document_name for item in made))
    return Experiment(
        learn=_dataset(
            _of_contracts(contracts, learn), _of_generated(made, made_names[N_GENERATED:])
        ),
        test=_dataset(
            _of_contracts(contracts, test), _of_generated(made, made_names[:N_GENERATED])
        ),
        n_held_out=len(set(test) - trained_on),
    )


def _dataset(*parts: Iterator[Item]) -> Dataset:
    return Dataset(card=CARD, items=tuple(item for part in parts for item in part))


def _of_contracts(items: Sequence[Item], names: Sequence[str]) -> Iterator[Item]:
    """Some questions of each contract, of kinds that say whether it was held out from training."""
    for name in names:
        origin = "contract" if name in training_contracts() else "held-out contract"
        of_contract = [
            _renamed(item, origin) for item in items if item.document_name == f"{name}.txt"
        ]
        yield from draw_items(of_contract, PER_CONTRACT, SEED)


def _of_generated(items: Sequence[Item], names: Sequence[str]) -> Iterator[Item]:
    for name in names:
        of_document = [_renamed(i, "generated") for i in items if i.document_name == name]
        yield from draw_items(of_document, PER_GENERATED, SEED)


def _renamed(item: Item, origin: str) -> Item:
    return replace(item, kind=f"{origin}, {'stated' if item.answerable else 'absent'}")


def learn(runs: Sequence[Path]) -> CalibrationReport | str:
    """The profile that the learning run gives, or why there is none. No strategy here promises a
    stated loss, so no label is held back for that."""
    try:
        return calibrate(read_labelled(runs), risk_share=0.0)
    except BadRequest as error:
        return str(error)


def learn_relevance(runs: Sequence[Path]) -> Profile | str:
    """What the rung `evidence` is to send, as the learning run shows it, or why that is unknown."""
    try:
        return fit_on_runs(runs)
    except BadRequest as error:
        return str(error)


async def quote(
    app: App, experiment: Experiment, chunk_tokens: int, tell: Callable[[str], None]
) -> Quote:
    """The most that the cloud would be paid: every rung of every question once (kept responses make
    a second time free), and every round of `minion` and `minions`. Nothing is sent.

    Raises BadRequest when the cloud's price is unknown."""
    usd, seen = Decimal(0), dict[ItemDocument, int]()
    everything = [(item, 1) for item in experiment.learn.items]
    everything += [(item, 2 * (MAX_ROUNDS + 1)) for item in experiment.test.items]
    for number, (item, n_rounds) in enumerate(everything, start=1):
        (document,) = item.documents
        read = await app.add_document(item.document_text.encode(), document.name)
        found = estimate(item.asked, [read], app.desk.terms, chunk_tokens)
        price = {rung.rung: rung.expected_usd for rung in found.rungs}
        evidence, passages, whole = (price[rung] for rung in Rung.LOCAL.above)
        if evidence is None or passages is None or whole is None:
            raise BadRequest(
                f"The price of {app.desk.terms.model} is unknown: state it under [prices]."
            )
        usd += whole + 2 * passages + evidence * (1 + n_rounds)
        seen[document] = found.document_tokens
        tell(f"{number}/{len(everything)}")
    return Quote(usd=usd, n_questions=len(everything), document_tokens=sum(seen.values()))
