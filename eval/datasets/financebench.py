"""FinanceBench: questions of analysts about filings of US companies.

Patronus AI (Islam et al. 2023, arXiv 2311.11944). Licence: CC BY-NC 4.0 on its dataset card: for
measuring only. Neither its text nor anything derived from it may go into the project, so no row is
shown here. Read from a folder that holds `questions.jsonl`, `pages.jsonl.gz` and `pdfs/`:

    questions: `financebench_id`, `question`, `answer`, `doc_name`, `question_type` (one of
               metrics-generated, domain-relevant, novel-generated), `pdf_in_package`,
               `pages_in_package`, and `evidence`, a list of `evidence_text` and
               `evidence_page_num` (from 0)
    pages:     `doc_name`, `page` (from 0), `text`: the pages of the filings as text

A filing that is there as a PDF is read from it, so that the product's own ingest is measured;
others are read from their page texts, each page ending in a form feed. Questions of filings that
are there in neither form are left out.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from eval.datasets.files import json_lines, require_files
from eval.items import AnswerType, DatasetCard, GoldEvidence, Item, ItemDocument

FILES = ("questions.jsonl", "pages.jsonl.gz")
CARD = DatasetCard(
    name="financebench",
    source="Patronus AI, FinanceBench, arXiv 2311.11944; without questions whose filing is missing",
    licence="CC BY-NC 4.0: for measuring only",
    metric="the rule grader (`eval.grader`)",
)


def load(folder: Path) -> list[Item]:
    """Every question whose filing is there. Raises NotFound when a file is missing."""
    require_files(folder, FILES)
    filings = _filings(folder)
    rows = json_lines(folder / FILES[0])
    return [_item(row, filings[row["doc_name"]]) for row in rows if row["doc_name"] in filings]


def _filings(folder: Path) -> dict[str, ItemDocument]:
    pages: dict[str, dict[int, str]] = defaultdict(dict)
    for row in json_lines(folder / FILES[1]):
        pages[row["doc_name"]][row["page"]] = row["text"]
    filings = {name: _from_pages(name, of_filing) for name, of_filing in pages.items()}
    for path in sorted((folder / "pdfs").glob("*.pdf")):
        filings[path.stem] = ItemDocument(name=path.name, path=path)
    return filings


def _from_pages(name: str, pages: dict[int, str]) -> ItemDocument:
    """A page that is missing stays empty, so that page numbers are those of the filing."""
    texts = (pages.get(number, "").replace("\f", " ") for number in range(max(pages) + 1))
    return ItemDocument(name=f"{name}.txt", text="\f".join(texts))


def _item(row: dict[str, Any], filing: ItemDocument) -> Item:
    return Item(
        item_id=row["financebench_id"],
        documents=(filing,),
        question=row["question"],
        gold_answers=(row["answer"],),
        kind=row["question_type"],
        answer_type=AnswerType.FREE,
        evidence=tuple(
            GoldEvidence(text=each["evidence_text"], page=each["evidence_page_num"] + 1)
            for each in row["evidence"]
        ),
    )
