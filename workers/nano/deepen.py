"""Give a trained nano two more layers: `python -m workers.nano.deepen --help`.

The new pair (sliding, then full) goes in before layer `--at`, so that the layers alternate as
before. It adds nothing to the residual stream (its output matrices are zero) until it is trained.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from workers.nano.checkpoint import save_atomically
from workers.nano.model import Block, Nano
from workers.nano.restore import starting_model
from workers.nano.shape import NanoShape

N_NEW = 2


def silent_block(shape: NanoShape) -> Block:
    """A layer that passes its input on; queries and keys of a head group start out alike.

    Alike, they attend to like tokens, which is what the full layers are to learn.
    """
    block = Block(shape)
    with torch.no_grad():
        block.attention.out.zero_()
        block.experts.down.zero_()
        keys = block.attention.k.view(shape.n_kv_heads, shape.head_width, shape.width)
        group = shape.n_heads // shape.n_kv_heads
        block.attention.q.copy_(keys.repeat_interleave(group, 0).reshape(-1, shape.width))
    return block


def deepened(model: Nano, at: int, seed: int) -> Nano:
    """The same function with `N_NEW` more layers before layer `at` (even, so layers alternate)."""
    if at % 2 or not 0 <= at <= model.shape.n_layers:
        raise ValueError(f"at {at}: must be even and at most {model.shape.n_layers}")
    torch.manual_seed(seed)
    shape = dataclasses.replace(model.shape, n_layers=model.shape.n_layers + N_NEW)
    deeper = Nano(shape)
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        state[_moved(name, at)] = value
    for index in range(at, at + N_NEW):
        own = silent_block(shape).state_dict()
        state |= {f"blocks.{index}.{name}": value for name, value in own.items()}
    deeper.load_state_dict(state)
    return deeper


def _moved(name: str, at: int) -> str:
    """A parameter's name after the insertion."""
    parts = name.split(".")
    if parts[0] != "blocks" or int(parts[1]) < at:
        return name
    return ".".join(("blocks", str(int(parts[1]) + N_NEW), *parts[2:]))


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=Path, required=True, help="checkpoint or GGUF")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    model = deepened(starting_model(args.start), args.at, args.seed)
    save_atomically({"shape": model.shape.as_dict(), "model": model.state_dict()}, args.out)


if __name__ == "__main__":
    main()
