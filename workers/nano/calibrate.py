"""Shift nano's readiness to abstain by a constant: `python -m workers.nano.calibrate --help`.

gpt-oss's output head has no bias, so the shift goes into the head's row for `null`: a multiple of
the mean state at the decision, which there adds about the same logit everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from workers.nano.checkpoint import save_atomically
from workers.nano.mixture import Corpus, Mixture, Shares, sequence_of
from workers.nano.model import Nano
from workers.nano.packing import Packer, make_batch
from workers.nano.restore import starting_model
from workers.nano.tokenizer import NanoTokenizer

FIRST_SEED = 7 * 10**11


@torch.no_grad()
def decision_states(model: Nano, mixture: Mixture, packer: Packer, n_examples: int) -> Tensor:
    """What the head reads where null or a value is decided: (questions, width)."""
    states = []
    for seed in range(FIRST_SEED, FIRST_SEED + n_examples):
        sequence = sequence_of(mixture, packer, seed)
        batch = make_batch([sequence], model.shape.sliding_window)
        rows = torch.tensor(sequence.decisions) - 1
        states.append(model(batch.ids, batch.positions, batch.tiles, rows).final)
    return torch.cat(states)


def shifted_head(head: Tensor, states: Tensor, null: int, shift: float) -> Tensor:
    """The head with about `shift` added to the logit of `null` at decisions (logits, natural)."""
    mean = states.mean(0)
    changed = head.clone()
    changed[null] += shift * mean / mean.dot(mean)
    return changed


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="or a GGUF")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shift", type=float, required=True, help="positive: abstain more often")
    parser.add_argument("--examples", type=int, default=300)
    args = parser.parse_args()
    tokenizer = NanoTokenizer.load()
    model = starting_model(args.checkpoint)
    model.set_fake_quant(True)
    mixture = Mixture(Corpus.load(args.data, tokenizer), Shares())
    states = decision_states(model, mixture, Packer(tokenizer), args.examples)
    null = tokenizer.ids["Ġnull"]
    weights = dict(model.state_dict())
    weights["head"] = shifted_head(model.head.detach(), states, null, args.shift)
    spread = states @ (states.mean(0) / states.mean(0).dot(states.mean(0)))
    save_atomically({"shape": model.shape.as_dict(), "model": weights}, args.out)
    print(f"shift {args.shift}: spread over decisions {float(spread.std()):.3f} of it")  # noqa: T201


if __name__ == "__main__":
    main()
