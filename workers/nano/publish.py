"""Ship a GGUF: copy it beside the code and write its digest and figures into the model card.

`python -m workers.nano.publish --gguf FILE --figures FIGURES.json`
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SHIPPED = FOLDER / "nano.gguf"
RECORD = FOLDER / "nano.json"
CARD = FOLDER / "MODEL_CARD.md"
_BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- end figures -->)", re.DOTALL)
_COLUMNS = (
    "exact_answer", "answer_f1", "citation_verified", "abstention_f1", "auroc_confidence",
    "auroc_answered", "n_questions",
)  # fmt: skip


def figures_table(digest: str, n_bytes: int, figures: dict[str, Any]) -> str:
    """The card's block: file, digest and one row per test set."""
    sets = {name: f for name, f in figures.items() if isinstance(f, dict)}
    lines = [
        f"`nano.gguf`, {n_bytes / 1e6:.2f} MB, SHA-256 `{digest}`.",
        "",
        "| test set | " + " | ".join(_COLUMNS) + " |",
        "|---|" + "---|" * len(_COLUMNS),
    ]
    for name, row in sets.items():
        cells = (_cell(row.get(column)) for column in _COLUMNS)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def publish(gguf: Path, figures: dict[str, Any]) -> str:
    """Copy, record, and fill the card. Returns the digest."""
    raw = gguf.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    # In one step: a process that has the old file mapped must never see it cut under its feet.
    arriving = SHIPPED.with_suffix(".arriving")
    arriving.write_bytes(raw)
    arriving.replace(SHIPPED)
    record = {"file": SHIPPED.name, "sha256": digest, "bytes": len(raw), "figures": figures}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    block = figures_table(digest, len(raw), figures)
    card = CARD.read_text(encoding="utf-8")
    CARD.write_text(_BLOCK.sub(lambda m: m[1] + block + m[2], card), encoding="utf-8")
    return digest


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True, help="what evaluate printed")
    args = parser.parse_args()
    figures = json.loads(args.figures.read_text(encoding="utf-8"))
    print(publish(args.gguf, figures))  # noqa: T201


if __name__ == "__main__":
    main()
