"""The mean of two checkpoints of one run's line: `python -m workers.nano.average --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from workers.nano.checkpoint import load_checkpoint, save_atomically


def averaged(one: dict[str, Tensor], other: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Every parameter as `1 - share` of the first and `share` of the second.

    Weights that one run began and the next went on with lie near each other, and their mean reads
    better than either (Wortsman et al., 2022)."""
    return {name: (1 - share) * value + share * other[name] for name, value in one.items()}


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--with", type=Path, required=True, dest="other")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of the second checkpoint")
    args = parser.parse_args()
    one, other = load_checkpoint(args.checkpoint), load_checkpoint(args.other)
    if one["shape"] != other["shape"]:
        raise SystemExit(f"{args.checkpoint} and {args.other} are models of different shapes")
    model = averaged(one["model"], other["model"], args.share)
    save_atomically({"shape": one["shape"], "model": model}, args.out)


if __name__ == "__main__":
    main()
