"""The mean of two models of one run's line: `python -m workers.nano.average --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from workers.nano.checkpoint import save_atomically
from workers.nano.restore import starting_model


def averaged(one: dict[str, Tensor], other: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Every parameter as `1 - share` of the first and `share` of the second.

    Weights that one run began and the next went on with lie near each other, and their mean reads
    better than either (Wortsman et al., 2022)."""
    return {name: (1 - share) * value + share * other[name] for name, value in one.items()}


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="or a GGUF")
    parser.add_argument("--with", type=Path, required=True, dest="other", help="likewise")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of the second model")
    args = parser.parse_args()
    one, other = starting_model(args.checkpoint), starting_model(args.other)
    if one.shape != other.shape:
        raise SystemExit(f"{args.checkpoint} and {args.other} are models of different shapes")
    model = averaged(one.state_dict(), other.state_dict(), args.share)
    save_atomically({"shape": one.shape.as_dict(), "model": model}, args.out)


if __name__ == "__main__":
    main()
