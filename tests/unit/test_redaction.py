"""What is personal does not leave, and comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.iso7064 import mod_97_10
from stdnum.us import ssn

from minions.cloud.model import CloudUsage
from minions.cloud.recorded import RecordedCloud, Recording
from minions.errors import BudgetExceeded
from minions.question import StrategyName
from minions.redaction import NOTE, PatternRedactor, kind_of, redact_request
from router import Rung
from tests.cloud import cloud_request
from tests.house import open_house

DIGITS = "0123456789"
REGIONS = ("US", "GB", "DE", "FR", "CH", "JP", "BR", "IN", "AU", "ES")
FORMATS = (
    phonenumbers.PhoneNumberFormat.INTERNATIONAL,
    phonenumbers.PhoneNumberFormat.E164,
)


def examples_of(region: str) -> list[phonenumbers.PhoneNumber]:
    kinds = (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE)
    found = (phonenumbers.example_number_for_type(region, kind) for kind in kinds)
    return [number for number in found if number is not None]


@st.composite
def phones(draw: st.DrawFn) -> str:
    """A number of some country with its last three digits drawn, written internationally."""
    number = draw(st.sampled_from([n for region in REGIONS for n in examples_of(region)]))
    last = draw(st.integers(0, 999))
    varied = phonenumbers.PhoneNumber(
        country_code=number.country_code,
        national_number=number.national_number // 1000 * 1000 + last,
    )
    assume(phonenumbers.is_valid_number(varied))
    return phonenumbers.format_number(varied, draw(st.sampled_from(FORMATS)))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    bank = draw(st.text(DIGITS, min_size=18, max_size=18))
    check = mod_97_10.calc_check_digits(f"{bank}DE")
    number = f"DE{check}{bank}"
    assert iban.is_valid(number)
    return number if draw(st.booleans()) else iban.format(number)


@st.composite
def cards(draw: st.DrawFn) -> str:
    body = "4" + draw(st.text(DIGITS, min_size=14, max_size=14))
    number = body + luhn.calc_check_digit(body)
    separator = draw(st.sampled_from(("", " ", "-")))
    return separator.join(number[i : i + 4] for i in range(0, 16, 4))


@st.composite
def ssns(draw: st.DrawFn) -> str:
    number = draw(st.from_regex(r"[0-8]\d\d-\d\d-\d{4}", fullmatch=True))
    assume(number.isascii() and ssn.is_valid(number))
    return number


personal = st.one_of(st.emails(), phones(), ibans(), cards(), ssns())
around = st.sampled_from((" ", "\n", ", ", "; ", " (", ") ", ": ", ".\n", "\t", ' "', '" '))
plain = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="@"), max_size=30
) | st.sampled_from(["The fee is", "Contact:", "[EMAIL_1]", "[PHONE_2] or", "[SSN_1", "page 3"])


@given(st.lists(st.tuples(plain, around, personal, around), max_size=6))
@example([("", " ", "a@b.co", " "), ("[EMAIL_1]", " ", "c@d.org", " ")])
@example([("", " ", "+44 121 234 5000", " "), ("", " ", "0@A.At", " ")])
@settings(max_examples=150, deadline=None)
def test_all_comes_back_and_nothing_of_it_left(parts: list[tuple[str, str, str, str]]) -> None:
    text = "".join(map("".join, parts))
    redacted = PatternRedactor().redact([text])
    assert redacted.restore(redacted.texts[0]) == text
    for _, _, secret, _ in parts:
        assert secret not in redacted.texts[0]
    assert not set(redacted.originals) & {name for name in redacted.originals if name in text}


@given(st.text(st.characters(exclude_categories=("Cs",))), st.lists(st.text(max_size=8)))
def test_any_text_comes_back(text: str, terms: list[str]) -> None:
    redacted = PatternRedactor(terms=tuple(terms)).redact([text, text.upper()])
    assert tuple(map(redacted.restore, redacted.texts)) == (text, text.upper())


@given(st.lists(personal, min_size=1, max_size=4), st.text(max_size=10))
def test_a_json_answer_stays_json(secrets: list[str], term: str) -> None:
    assume(term.strip())
    redacted = PatternRedactor(terms=(term,)).redact([" ; ".join([*secrets, term])])
    reply = json.dumps({"answer": redacted.texts[0]}, ensure_ascii=False)
    restored = json.loads(redacted.restore(reply, in_json=True))
    assert restored == {"answer": redacted.restore(redacted.texts[0])}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to Jane.Doe+x@example.co.uk.", "EMAIL"),
        ("call (651) 733-1110 today", "PHONE"),
        ("call +44 (0)1865 206101 ext. 4", "PHONE"),
        ("call +44 121 234 5000  7 days a week", "PHONE"),
        ("call (651) 733-1110 2 times", "PHONE"),
        ("651-733-1110 2 3 4", "PHONE"),
        ("IBAN GB82 WEST 1234 5698 7654 32 is ours", "IBAN"),
        ("card 3782-822463-10005", "CARD"),
        ("card 5555 5555 5555 4444.", "CARD"),
        ("card 4111 1111 1111 1111 5 times", "CARD"),
        ("3020 4111-1111-1111-1111", "CARD"),
        ("3020 4111 1111 1111 1111", "CARD"),
        ("SSN: 536-90-4399", "SSN"),
        ("SSN: 536\u201390\u20134399", "SSN"),
        ("ITIN 912-90-3456", "SSN"),
        ("from 192.168.10.24 today", "IP"),
        ("from 2001:db8:85a3::8a2e:370:7334", "IP"),
    ],
)
def test_each_kind_is_found_where_people_write_it(text: str, kind: str) -> None:
    redacted = PatternRedactor().redact([text])
    assert [kind_of(name) for name in redacted.originals] == [kind]
    assert redacted.counts == {kind: 1}


@pytest.mark.parametrize(
    "text",
    [
        "2019 2018 2017 and 2016",
        "2023 2024 2025 2026",
        "Net sales 11,151 11,154 - 1",
        "Section 4.2.3.1 applies, and 12:30:45 is late",
        "2022 570 597\n2023 680 712\n2025 547 546",
        "invoice 3102153 of 01-02-2020",
        "see page 3@ the end, @home",
        "ratio 1:2:3, std::vector",
        "FY2018 capital expenditure of $1,577 million",
    ],
)
def test_figures_are_left_alone(text: str) -> None:
    assert PatternRedactor().redact([text]).texts == (text,)


def test_listed_terms_are_hidden_in_any_case_and_only_as_words() -> None:
    redactor = PatternRedactor(terms=("Ann Lee", "Ann", " "))
    redacted = redactor.redact(["Annual: ANN\nLEE met ann. Joann left."])
    assert redacted.texts == ("Annual: [TERM_1] met [TERM_2]. Joann left.",)
    assert redacted.originals == {"[TERM_1]": "ANN\nLEE", "[TERM_2]": "ann"}


def test_the_same_value_has_one_placeholder_in_all_texts() -> None:
    redacted = PatternRedactor().redact(["a@b.co and c@d.org", "c@d.org, a@b.co"])
    assert redacted.texts == ("[EMAIL_1] and [EMAIL_2]", "[EMAIL_2], [EMAIL_1]")


def test_a_placeholder_of_the_document_keeps_its_meaning() -> None:
    redacted = PatternRedactor().redact(["[EMAIL_1] is a label; a@b.co is not"])
    assert redacted.texts == ("[EMAIL_1] is a label; [EMAIL_2] is not",)
    assert redacted.restore("[EMAIL_1] [EMAIL_2] [EMAIL_3]") == "[EMAIL_1] a@b.co [EMAIL_3]"


def test_a_request_with_nothing_to_hide_stays_as_it_is() -> None:
    request = cloud_request()
    assert redact_request(PatternRedactor(), request)[0] is request


def test_another_redaction_is_another_call() -> None:
    request = cloud_request("Ask a@b.co about Ann.")
    keys: set[str] = {request.idempotency_key}
    for terms in ((), ("Ann",)):
        changed, _ = redact_request(PatternRedactor(terms=terms), request)
        assert changed.instructions.endswith(NOTE)
        assert "a@b.co" not in changed.content
        keys.add(changed.idempotency_key)
    assert len(keys) == 3


HOSTILE: tuple[Callable[[int], str], ...] = (
    lambda n: "a" * n,
    lambda n: "a@" * (n // 2),
    lambda n: "1 " * (n // 2),
    lambda n: "DE89 " * (n // 5),
    lambda n: "a." * (n // 2) + "@" + "b." * (n // 2),
    lambda n: "::" * (n // 2),
    lambda n: "1.1." * (n // 4),
    lambda n: "+1 " * (n // 3),
    lambda n: "(651) 733-111" * (n // 13),
)


@pytest.mark.parametrize("make", HOSTILE)
@pytest.mark.timeout(20)
def test_hostile_texts_take_no_longer(make: Callable[[int], str]) -> None:
    text = make(60_000)
    redacted = PatternRedactor(terms=("a a",)).redact([text])
    assert redacted.restore(redacted.texts[0]) == text


LETTER = (
    "Birch pays Alder within 30 days.\n\nQuestions go to ann.lee@birch.example or "
    '+44 20 7946 0958; say "Birch" first.\n'
)
ADDRESS = "ann.lee@birch.example"


async def test_a_question_is_asked_and_answered_through_the_placeholders(tmp_path: Path) -> None:
    """What leaves is redacted and recorded so; answer and quotes come back whole and verified."""
    text = json.dumps({"answer": "[EMAIL_1]", "citations": ["Questions go to [EMAIL_1]"]})
    usage = CloudUsage(prompt_tokens=90, completion_tokens=20)
    cloud = RecordedCloud([Recording(text=text, usage=usage)])
    async with open_house(tmp_path, client=cloud, text=LETTER) as house:
        house.desk.redactor = PatternRedactor(terms=("alder",))
        question = house.question(
            f"Whose address is {ADDRESS}?", strategy=StrategyName.CLOUD, redact=True
        )
        record = await house.desk.accept(question)
        reply = await house.desk.work(record)
        again = await house.desk.work(record)
        (entry,) = await house.store.egress()
        trace = await house.store.get_trace(reply.trace_id)
    (request,) = cloud.requests
    for hidden in (ADDRESS, "7946", "Alder"):
        assert hidden not in request.content and hidden.encode() not in entry.content
    assert entry.content.decode() == f"{request.instructions}\n\n{request.content}"
    assert reply.answer == again.answer == ADDRESS
    assert [c.quote for c in reply.citations] == [f"Questions go to {ADDRESS}"]
    assert reply.receipt.redacted == {"EMAIL": 1, "PHONE": 1, "TERM": 1}
    hidden_facts = [step["facts"] for step in trace["steps"] if step["name"] == "redact"]
    assert hidden_facts == [{"rung": "document", "hidden": dict(reply.receipt.redacted)}]


async def test_without_the_wish_nothing_is_hidden(tmp_path: Path) -> None:
    usage = CloudUsage(prompt_tokens=90, completion_tokens=20)
    cloud = RecordedCloud([Recording(text='{"answer": null}', usage=usage)])
    async with open_house(tmp_path, client=cloud, text=LETTER) as house:
        reply = await house.desk.ask(house.question("Who?", strategy=StrategyName.CLOUD))
    assert LETTER in cloud.requests[0].content
    assert reply.receipt.redacted == {}


async def test_the_cap_is_kept_on_what_really_leaves(tmp_path: Path) -> None:
    """Placeholders may take more tokens than what they hide: the reservation counts them."""
    text = " ".join(f"a{n}@b.co" for n in range(400))
    cloud = RecordedCloud([])
    async with open_house(tmp_path, client=cloud, text=text) as house:
        quote = (await house.desk.ask(house.question("Who?", privacy=Rung.LOCAL))).offers[-1]
        question = house.question(
            "Who?", strategy=StrategyName.CLOUD, redact=True, max_cost_usd=quote.worst_usd
        )
        with pytest.raises(BudgetExceeded):
            await house.desk.ask(question)
    assert cloud.requests == []
