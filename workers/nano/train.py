"""Train nano: `python -m workers.nano.train --help`.

Runs chain: `--start` takes another run's weights, `--out` resumes when it exists. With one worker
a run that was stopped and resumed is the run that was not stopped, bit for bit. With more, workers
update shared weights without waiting for each other (Hogwild): faster, not reproducible.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from torch import Tensor

from workers.nano.checkpoint import load_checkpoint, model_from, save_atomically
from workers.nano.mixture import Corpus, Mixture, Shares, sequence_of
from workers.nano.model import Nano
from workers.nano.optimizer import HAS_BF16, NanoOptimizer
from workers.nano.packing import (
    ABSTAIN,
    ABSTAIN_FROM_CLAUSE,
    ANSWER,
    FREE_TEXT,
    Batch,
    Packer,
    Sequenced,
    make_batch,
)
from workers.nano.restore import starting_model
from workers.nano.shape import NanoShape
from workers.nano.supervision import attention_loss, clause_loss
from workers.nano.tokenizer import NanoTokenizer

BUCKET = 48
BALANCE_SHARE = 0.01
PLAIN_TEXT_SHARE = 0.10
PLAIN_TEXT_WEIGHT = 0.1
GRADIENT_LIMIT = 1.0
FINAL_RATE = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One run. Rates are factors of the optimiser's base rates; shares are of the run's length.

    The run is as long as `n_tokens`, or `minutes` of this process if they pass first; with
    `minutes` its schedule depends on the machine's speed and is not reproducible. bf16: compute in
    bfloat16, by default where the processor has instructions for it.
    """

    out: Path
    n_tokens: int
    minutes: float | None = None
    seed: int = 1
    rate: float = 0.5
    warmup_steps: int = 40
    decay_from: float = 1.0
    attention_share: float = 0.4
    clause_share: float = 0.3
    fake_quant_from: float = 1.0
    batch_tokens: int = 4600
    n_workers: int = 1
    bf16: bool = HAS_BF16
    save_every_s: float = 240.0
    log_every: int = 25


def learning_rate(plan: Plan, step: int, done: float) -> float:
    """Warm-up by steps, then flat, then linear down to `FINAL_RATE` of it; `done` in [0, 1]."""
    warm = min(1.0, (step + 1) / plan.warmup_steps)
    left = 1.0 if done < plan.decay_from else (1 - done) / (1 - plan.decay_from)
    return plan.rate * warm * max(FINAL_RATE, left)


def batches(mixture: Mixture, packer: Packer, plan: Plan, bucket: int) -> list[list[Sequenced]]:
    """Bucket number `bucket`: examples of similar length together, in random order."""
    first = plan.seed * 10**8 + bucket * BUCKET
    drawn = [sequence_of(mixture, packer, first + i) for i in range(BUCKET)]
    drawn = sorted((s for s in drawn if s.decisions), key=len)
    groups: list[list[Sequenced]] = [[]]
    for sequence in drawn:
        if groups[-1] and len(sequence) * (len(groups[-1]) + 1) > plan.batch_tokens:
            groups.append([])
        groups[-1].append(sequence)
    random.Random(first).shuffle(groups)
    return groups


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFigures:
    """What one step measured, for the log."""

    loss: float
    answered: float
    abstained: float
    copied: float
    on_span: float
    on_sink: float
    clauses: float


def targets(batch: Batch, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Flat rows that predict, the ids they must predict and their weights.

    Besides the answers, a random tenth of the chunk's tokens keeps the model able to read text.
    """
    generator = torch.Generator().manual_seed(step)
    plain = torch.rand(batch.ids.shape, generator=generator) < PLAIN_TEXT_SHARE
    plain &= batch.branches == 0
    plain[:, 0] = False
    b, t = ((batch.weights > 0) | plain).nonzero(as_tuple=True)
    weights = batch.weights[b, t]
    weights = torch.where(weights > 0, weights, torch.full_like(weights, PLAIN_TEXT_WEIGHT))
    return b * batch.ids.shape[1] + batch.parents[b, t], batch.ids[b, t], weights


def loss_of(model: Nano, batch: Batch, plan: Plan, step: int) -> tuple[Tensor, StepFigures]:
    """The training loss of a batch."""
    rows, wanted, weights = targets(batch, step)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.bf16):
        outputs = model(batch.ids, batch.positions, batch.tiles, rows)
        clauses = clause_loss(model, outputs, batch)
    each = F.cross_entropy(outputs.logits.float(), wanted, reduction="none")
    loss = (each * weights).sum() / weights.sum()
    looked = attention_loss(model, outputs, batch)
    right = outputs.logits.argmax(-1) == wanted
    figures = StepFigures(
        loss=loss.item(),
        answered=_mean(right[weights == ANSWER]),
        abstained=_mean(right[(weights == ABSTAIN) | (weights == ABSTAIN_FROM_CLAUSE)]),
        copied=_mean(right[weights == FREE_TEXT]),
        on_span=looked.on_span,
        on_sink=looked.on_sink,
        clauses=clauses.item(),
    )
    guided = plan.attention_share * looked.loss + plan.clause_share * clauses
    return loss + BALANCE_SHARE * outputs.balance + guided, figures


def _mean(right: Tensor) -> float:
    return float(right.float().mean()) if len(right) else float("nan")


@dataclass(kw_only=True, slots=True)
class Progress:
    """Where a worker is; saved with the weights."""

    n_tokens: int = 0
    step: int = 0
    bucket: int = 0
    batch: int = 0


class Trainer:
    """One worker's loop over its own buckets."""

    def __init__(
        self, model: Nano, mixture: Mixture, packer: Packer, plan: Plan, rank: int
    ) -> None:
        self.model, self.mixture, self.packer = model, mixture, packer
        self.plan, self.rank = plan, rank
        self.optimizer = NanoOptimizer(model)
        self.progress = Progress()
        self.started = time.monotonic()
        self.saved = self.started
        self._figures: list[StepFigures] = []

    def run(self) -> None:
        """Until this worker has seen its share of `n_tokens`."""
        for group in self._stream():
            self._step(group)
            if self.rank == 0 and time.monotonic() - self.saved > self.plan.save_every_s:
                self.save()
        if self.rank == 0:
            self.save()

    def _stream(self) -> Iterator[list[Sequenced]]:
        progress = self.progress
        while self._done() < 1:
            own = progress.bucket * self.plan.n_workers + self.rank
            groups = batches(self.mixture, self.packer, self.plan, own)
            for index in range(progress.batch, len(groups)):
                if self._done() >= 1:
                    return
                progress.batch = index + 1
                yield groups[index]
            progress.bucket, progress.batch = progress.bucket + 1, 0

    def _done(self) -> float:
        """Share of the run that lies behind."""
        share = self.progress.n_tokens * self.plan.n_workers / self.plan.n_tokens
        if self.plan.minutes is None:
            return share
        return max(share, (time.monotonic() - self.started) / 60 / self.plan.minutes)

    def _step(self, group: list[Sequenced]) -> None:
        plan, progress = self.plan, self.progress
        done = self._done()
        self.model.set_fake_quant(done >= plan.fake_quant_from)
        batch = make_batch(group, self.model.shape.sliding_window)
        loss, figures = loss_of(self.model, batch, plan, progress.step)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_LIMIT)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"step {progress.step}: the gradient is not finite")
        self.optimizer.step(learning_rate(plan, progress.step, done))
        progress.step += 1
        progress.n_tokens += sum(len(s) for s in group)
        self._figures.append(figures)
        if self.rank == 0 and progress.step % plan.log_every == 0:
            self._log()

    def _log(self) -> None:
        """One line in `<out>.log`: means since the last line (nan where nothing was asked)."""
        names = StepFigures.__dataclass_fields__
        means = {
            n: torch.tensor([getattr(f, n) for f in self._figures]).nanmean().item() for n in names
        }
        self._figures.clear()
        p, elapsed = self.progress, time.monotonic() - self.started
        line = (
            f"{elapsed / 60:.1f} min, step {p.step}, {p.n_tokens / 1e6:.3f}M tokens of worker 0: "
        )
        line += " ".join(f"{name} {value:.3f}" for name, value in means.items())
        with self.plan.out.with_suffix(".log").open("a") as log:
            log.write(line + "\n")

    def save(self) -> None:
        """Weights, optimiser and progress, written whole or not at all."""
        p = self.progress
        record = {
            "shape": self.model.shape.as_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {
                "n_tokens": p.n_tokens,
                "step": p.step,
                "bucket": p.bucket,
                "batch": p.batch,
            },
        }
        save_atomically(record, self.plan.out)
        self.saved = time.monotonic()

    def restore(self, record: dict[str, Any]) -> None:
        """Go on from what `save` wrote (the weights are already in the model)."""
        self.optimizer.load_state_dict(record["optimizer"])
        self.progress = Progress(**record["progress"])


def build_trainer(
    plan: Plan, mixture: Mixture, packer: Packer, start: Path | None, rank: int = 0
) -> Trainer:
    """Resume `plan.out`, or start from `start`'s weights, or from seeded random ones."""
    if plan.out.exists():
        record = load_checkpoint(plan.out)
        trainer = Trainer(model_from(record), mixture, packer, plan, rank)
        trainer.restore(record)
        return trainer
    torch.manual_seed(plan.seed)
    shape = NanoShape(n_vocab=len(packer.tokenizer))
    model = Nano(shape) if start is None else starting_model(start)
    return Trainer(model, mixture, packer, plan, rank)


def _work(rank: int, trainer: Trainer) -> None:
    torch.set_num_threads(1)
    trainer.rank = rank
    trainer.run()


def train(plan: Plan, mixture: Mixture, packer: Packer, start: Path | None) -> None:
    """Run the plan to its end."""
    trainer = build_trainer(plan, mixture, packer, start)
    if plan.n_workers == 1:
        torch.set_num_threads(1)
        trainer.run()
        return
    trainer.model.share_memory()
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_work, args=(rank, trainer)) for rank in range(plan.n_workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with cuad/ covidqa/ tatqa/"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write and resume")
    parser.add_argument("--start", type=Path, help="checkpoint or GGUF whose weights to begin with")
    parser.add_argument("--tokens", type=float, required=True, help="length of the run")
    parser.add_argument("--minutes", type=float, help="end sooner, by the clock")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--batch-tokens", type=int, default=4600)
    parser.add_argument("--decay-from", type=float, default=1.0)
    parser.add_argument("--fake-quant-from", type=float, default=1.0)
    parser.add_argument("--attention-share", type=float, default=0.4)
    parser.add_argument("--clause-share", type=float, default=0.3)
    parser.add_argument("--workers", type=int, default=1)
    for name in ("contracts", "papers", "tables", "lookups", "generated"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Shares(), name))
    parser.add_argument("--max-tokens", type=int, default=Shares().max_tokens)
    parser.add_argument("--brief", type=float, default=Shares().brief)
    parser.add_argument("--generated-words", type=int, default=Shares().max_generated_words)
    return parser.parse_args()


def main() -> None:
    """Command line entry."""
    args = _arguments()
    tokenizer = NanoTokenizer.load()
    shares = Shares(
        contracts=args.contracts, papers=args.papers, tables=args.tables, lookups=args.lookups,
        generated=args.generated, max_tokens=args.max_tokens,
        max_generated_words=args.generated_words, brief=args.brief,
    )  # fmt: skip
    plan = Plan(
        out=args.out,
        n_tokens=int(args.tokens),
        minutes=args.minutes,
        seed=args.seed,
        rate=args.rate,
        batch_tokens=args.batch_tokens,
        decay_from=args.decay_from,
        fake_quant_from=args.fake_quant_from,
        attention_share=args.attention_share,
        clause_share=args.clause_share,
        n_workers=args.workers,
    )
    mixture = Mixture(Corpus.load(args.data, tokenizer), shares)
    train(plan, mixture, Packer(tokenizer), args.start)


if __name__ == "__main__":
    main()
