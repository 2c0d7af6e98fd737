"""Makes `contract.pdf` from `contract.txt`: `python -m minions.demo.make_pdf` (needs fpdf2)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF

HERE = Path(__file__).parent


def make_pdf(text: str, target: Path) -> None:
    """Set `text` (Latin-1) in pages of A4. The same text gives the same bytes."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    pdf.set_title("Manufacturing and Supply Agreement")
    pdf.set_auto_page_break(True, margin=22)
    pdf.set_margins(24, 22)
    pdf.set_font("Times", size=11)
    pdf.add_page()
    for paragraph in text.split("\n\n"):
        if paragraph.strip():
            pdf.multi_cell(0, 5.2, paragraph.strip(), align="L", new_x="LMARGIN", new_y="NEXT")
            pdf.ln(2.4)
    pdf.output(str(target))


if __name__ == "__main__":
    make_pdf((HERE / "contract.txt").read_text(), HERE / "contract.pdf")
