"""Requests beyond reading are recognised before any work; ordinary questions never are."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.abilities import facts_of
from minions.cloud.model import CloudUsage
from minions.cloud.recorded import RecordedCloud, Recording
from minions.documents import Document
from minions.documents.model import Page
from minions.errors import BeyondAbilities, BudgetExceeded
from minions.question import Question, StrategyName
from router import Rung
from router.capability import Capability, DocumentFacts, needed_capability
from tests.house import open_house
from workers import Job
from workers.scripted import ScriptedReply

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
QUESTIONS = {
    "cuad": "questions.jsonl.gz",
    "covidqa": "questions.jsonl",
    "qmsum": "questions.jsonl",
    "financebench": "questions.jsonl",
    "tatqa": "contexts_with_questions.jsonl.gz",
}
MAX_FALSE_ALARMS = 0.005
SCANNED = DocumentFacts(name="deed.pdf", n_pages=9, textless_pages=frozenset({3, 4, 7}))
TEXT = DocumentFacts(name="notes.txt", n_pages=1, textless_pages=frozenset())


@pytest.mark.parametrize(
    ("question", "capability"),
    [
        ("Describe the image on page 3", Capability.VISION),
        ("Please describe the photo.", Capability.VISION),
        ("What does the logo on the cover look like?", Capability.VISION),
        ("What is shown in the picture?", Capability.VISION),
        ("What colour is the logo?", Capability.VISION),
        ("Transcribe the handwriting at the bottom", Capability.VISION),
        ("Draw a diagram of the process", Capability.DRAWING),
        ("Could you please plot the revenue by year?", Capability.DRAWING),
        ("Generate an image of a pump", Capability.DRAWING),
        ("make me a simple bar chart of the segments", Capability.DRAWING),
        ("I would like you to sketch the org chart", Capability.DRAWING),
        ("Translate the whole document into German.", Capability.TRANSLATION),
        ("can you translate this contract to plain English", Capability.TRANSLATION),
        ("Write a Python function that computes the revenue", Capability.WRITING),
        ("Write code to parse this", Capability.WRITING),
        ("Draft a short e-mail to the supplier", Capability.WRITING),
        ("Write me a poem about the contract", Capability.WRITING),
        ("Rewrite the contract in plain words", Capability.WRITING),
    ],
)
def test_what_reading_can_not_do_is_seen(question: str, capability: Capability) -> None:
    need = needed_capability(question, [TEXT])
    assert need is not None and need.capability is capability
    assert need.reason.startswith("it asks")


@pytest.mark.parametrize(
    "question",
    [
        "Draw a conclusion about liquidity",
        "Translate the revenue into USD",
        "Describe the image rights clause",
        "What does the company's logo policy say?",
        "What image does the company want to project?",
        "Write the name of the contract",
        "Give me the chart of accounts",
        "What code of ethics applies?",
        "Describe the brand image strategy",
        "Create a list of the parties",
        "Create a program overview",
        "Summarize the whole meeting.",
        "What did the group say about drawing a diagram?",
        "Does the agreement let the licensee translate the software into German?",
        "What is on page 5?",
        "What is on pages 3 and 5?",
        "What is on page 12?",
    ],
)
def test_ordinary_questions_are_left_alone(question: str) -> None:
    assert needed_capability(question, [SCANNED]) is None


@pytest.mark.parametrize("question", ["What is on page 3?", "Compare page 7 with pages 3-4."])
def test_a_page_without_text_can_not_be_asked_about(question: str) -> None:
    need = needed_capability(question, [SCANNED])
    assert need is not None and need.capability is Capability.VISION
    assert "deed.pdf" in need.reason


def test_another_document_may_have_the_page() -> None:
    other = DocumentFacts(name="copy.pdf", n_pages=3, textless_pages=frozenset())
    assert needed_capability("What is on page 3?", [SCANNED, other]) is None
    assert needed_capability("What is on page 4?", [SCANNED, other]) is not None


@given(st.text(), st.lists(st.sampled_from([SCANNED, TEXT]), max_size=2))
def test_any_question_is_judged(question: str, documents: list[DocumentFacts]) -> None:
    need = needed_capability(question, documents)
    assert need is None or need.reason


def test_blank_and_scanned_pages_are_facts_of_a_document() -> None:
    document = scan()
    assert facts_of(document).textless_pages == {2}
    assert facts_of(document).n_pages == 2


def scan() -> Document:
    text = "The fee is 5 dollars.\n"
    end = len(text)
    return Document(
        document_id="doc_scan",
        sha256="0" * 64,
        name="scan.pdf",
        media_type="application/pdf",
        n_bytes=1,
        text=text,
        pages=(Page(number=1, start=0, end=end), Page(number=2, start=end, end=end)),
    )


# --- through the house ---------------------------------------------------------------------------

USAGE = CloudUsage(prompt_tokens=400, completion_tokens=30)
TRANSLATED = json.dumps({"answer": "Liefervertrag", "citations": ["SUPPLY AGREEMENT"]})
TRANSLATE = "Translate the document into German."


def never(job: Job) -> ScriptedReply:
    raise AssertionError("a worker was asked")


async def test_a_cloud_that_can_and_may_is_asked_at_once(tmp_path: Path) -> None:
    cloud = RecordedCloud([Recording(text=TRANSLATED, usage=USAGE)])
    async with open_house(tmp_path, client=cloud, script=never) as house:
        reply = await house.desk.ask(house.question(TRANSLATE))
        ledger = await house.store.ledger()
    assert (reply.answer, reply.rung) == ("Liefervertrag", Rung.DOCUMENT)
    assert "translation" in reply.reason
    assert [row.kind for row in ledger] == ["cloud"]


async def test_a_cut_answer_is_said_to_be_cut(tmp_path: Path) -> None:
    cut = Recording(text=TRANSLATED[:30], usage=USAGE, finish_reason="length")
    async with open_house(tmp_path, client=RecordedCloud([cut]), script=never) as house:
        reply = await house.desk.ask(house.question(TRANSLATE))
    assert any("was cut at 256 tokens" in warning for warning in reply.warnings)


@pytest.mark.parametrize(
    ("question", "options", "has_cloud", "told"),
    [
        (TRANSLATE, {}, False, "no cloud is set up"),
        (TRANSLATE, {"strategy": StrategyName.LOCAL}, True, "--strategy ladder"),
        (TRANSLATE, {"privacy": Rung.PASSAGES}, True, "privacy ceiling `passages`"),
        ("Describe the image on page 1", {}, True, "OCR"),
        ("Describe the image on page 1", {"strategy": StrategyName.CLOUD}, True, "OCR"),
        ("Draw a diagram of the parties", {}, True, "Answers here are text"),
    ],
)
async def test_what_nobody_can_or_may_do_is_refused_before_any_work(
    tmp_path: Path, question: str, options: dict[str, object], has_cloud: bool, told: str
) -> None:
    cloud = RecordedCloud([])
    client = cloud if has_cloud else None
    async with open_house(tmp_path, client=client, script=never) as house:
        with pytest.raises(BeyondAbilities, match=told) as caught:
            await house.desk.ask(house.question(question, **options))
        assert await house.store.list_runs() == []
    assert (caught.value.status, caught.value.code) == (422, "beyond_abilities")
    assert cloud.requests == []


async def test_the_budget_holds_for_what_is_routed(tmp_path: Path) -> None:
    cloud = RecordedCloud([])
    async with open_house(tmp_path, client=cloud, script=never) as house:
        with pytest.raises(BudgetExceeded, match="Nothing was sent"):
            await house.desk.ask(house.question(TRANSLATE, max_cost_usd=Decimal(0)))
    assert cloud.requests == []


async def test_a_scanned_page_is_refused_by_name(tmp_path: Path) -> None:
    async with open_house(tmp_path, script=never) as house:
        document = scan()
        await house.store.put_document(document)
        asked = Question(text="What does page 2 say?", document_ids=(document.document_id,))
        with pytest.raises(BeyondAbilities, match=r"page 2 of scan\.pdf.*OCR"):
            await house.desk.ask(asked)


# --- real questions ------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", QUESTIONS)
def test_real_questions_raise_no_alarm(dataset: str) -> None:
    asked = list(real_questions(dataset))
    alarms = [question for question in asked if needed_capability(question, [])]
    assert len(asked) > 50
    assert len(alarms) / len(asked) < MAX_FALSE_ALARMS, alarms


def real_questions(dataset: str) -> Iterator[str]:
    path = DATA / dataset / QUESTIONS[dataset]
    if not path.exists():
        pytest.skip(f"no {path.name} under {path.parent}: set MINIONS_DATA to the data's folder")
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield from (item["question"] for item in row.get("questions", [row]))
