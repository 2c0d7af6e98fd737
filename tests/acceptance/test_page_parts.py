"""The page's own modules in a real browser, without the service's work: its files, policy, parsing.

A tiny ASGI app serves the page's files, and nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from minions.rest.page import mount_page
from tests.browser import chromium
from tests.command import free_port

PAGE = Path(__file__).parents[2] / "minions/page"
VENDORED = PAGE / "pdfjs-6.5.438"
SEED = 20240817
WORDS = (
    "supply",
    "façade",
    "$4,250",
    "ﬁnal",
    "straße",
    "10.5%",
    "Ωmega",
    "a—b",
    "x²",
    "東京",
    "🙂",
)


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    api = FastAPI()
    mount_page(api)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(api, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def tab(base: str) -> Iterator[Any]:
    """A blank page of the service's origin, in which modules can be imported."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{base}/assets/icon.svg")
        yield page


def run(tab: Any, module: str, body: str, argument: Any = None) -> Any:
    """What a module makes of an argument; `body` uses `m` (the module) and `a`."""
    code = f"async (a) => {{ const m = await import('/assets/js/{module}'); {body} }}"
    return tab.evaluate(code, argument)


@pytest.mark.parametrize("path", ["/", "/assets/js/main.js", "/assets/css/base.css"])
def test_the_page_is_served_under_a_strict_policy(base: str, path: str) -> None:
    answer = httpx.get(base + path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"


def test_a_known_version_is_not_sent_again(base: str) -> None:
    path = f"{base}/assets/js/main.js"
    tag = httpx.get(path).headers["etag"]
    assert httpx.get(path, headers={"If-None-Match": tag}).status_code == 304


def test_vendored_files_are_kept_for_good_and_are_what_they_say(base: str) -> None:
    home = f"{base}/assets/pdfjs-6.5.438"
    library = httpx.get(f"{home}/pdf.min.mjs")
    assert library.headers["content-type"].startswith("text/javascript")
    assert "immutable" in library.headers["cache-control"]
    assert "Apache License" in httpx.get(f"{home}/LICENSE").text
    wasm = httpx.get(f"{home}/wasm/openjpeg.wasm")
    assert wasm.headers["content-type"] == "application/wasm"


def test_only_the_pdf_worker_may_compile_webassembly(base: str) -> None:
    worker = httpx.get(f"{base}/assets/pdfjs-6.5.438/pdf.worker.min.mjs")
    assert "'wasm-unsafe-eval'" in worker.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/assets/../rest/page.py", "/assets/%2e%2e/app.py", "/assets/"])
def test_nothing_else_is_served(base: str, path: str) -> None:
    with contextlib.closing(httpx.Client()) as client:
        assert client.get(base + path).status_code == 404


def test_a_quote_is_found_however_the_viewer_reads_the_page(tab: Any) -> None:
    """Line breaks, hyphens, ligatures, capitals and spaces may differ between the two readings."""
    random_ = random.Random(SEED)
    cases = [_case(random_) for _ in range(300)]
    body = """return a.map(({page, quote}) => {
      const place = m.locate(page, quote);
      return place && page.slice(place.start, place.end);
    });"""
    found = run(tab, "quote.js", body, cases)
    for case, text in zip(cases, found, strict=True):
        assert text is not None, case
        assert _folded(text) == _folded(case["quote"]), (case, text)


def _case(random_: random.Random) -> dict[str, str]:
    """A quote from between two unique ends, and the page as another program spells it."""
    words = random_.choices(WORDS, k=random_.randint(1, 12))
    quote = ["begin", *words, "end"]
    around = random_.choices(WORDS, k=8)
    page = [*around[:4], *(_respelled(word, random_) for word in quote), *around[4:]]
    gaps = (random_.choice([" ", "\n", "  ", "\u00a0"]) for _ in page)
    return {
        "quote": " ".join(quote),
        "page": "".join(w + g for w, g in zip(page, gaps, strict=True)),
    }


def _respelled(word: str, random_: random.Random) -> str:
    cut = random_.randint(1, len(word))
    hyphened = f"{word[:cut]}-\n{word[cut:]}"
    return random_.choice([word, word.replace("ﬁ", "fi"), word.upper(), hyphened])


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if unicodedata.category(c)[0] in "LN")


def test_of_several_places_the_nearest_is_taken(tab: Any) -> None:
    page = "Total 5. " * 10
    found = run(
        tab, "quote.js", "return [0, 0.5, 0.95].map(n => m.locate(a, 'Total 5', n).start)", page
    )
    assert found == [0, 45, 81]


def test_a_quote_with_a_garbled_middle_is_held_by_its_ends(tab: Any) -> None:
    quote = "The parties agree to keep all of this strictly confidential and never to tell anybody."
    page = f"1. {quote.replace('strictly', '#### ####')} 2. Other."
    body = "const p = m.locate(a.page, a.quote); return a.page.slice(p.start, p.end)"
    found = run(tab, "quote.js", body, {"page": page, "quote": quote})
    assert found.startswith("The parties") and found.endswith("anybody")


@pytest.mark.parametrize("quote", ["", "…", "not in there at all"])
def test_what_is_not_there_is_not_marked(tab: Any, quote: str) -> None:
    assert run(tab, "quote.js", "return m.locate('Some text on a page.', a)", quote) is None


def test_offsets_count_characters_as_the_service_does(tab: Any) -> None:
    text = "🙂🙂 price: 5"
    assert run(tab, "quote.js", "return m.sliceByCharacters(a, 3, 8)", text) == text[3:8]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_events_are_read_whatever_pieces_they_come_in(tab: Any, newline: str) -> None:
    stream = newline.join(
        [
            ": hello",
            "id: 1",
            "event: job",
            'data: {"a":',
            'data: "é"}',
            "",
            "data:x",
            "",
            "id: 9",
            "",
        ]
    )
    body = """
      const whole = new m.EventParser().push(a);
      const parser = new m.EventParser();
      const pieces = [...a].flatMap((letter) => parser.push(letter));
      return [whole, pieces, parser.push('\\n')];
    """
    whole, pieces, rest = run(tab, "sse.js", body, stream + newline)
    expected = [
        {"id": "1", "event": "job", "data": '{"a":\n"é"}'},
        {"id": None, "event": "message", "data": "x"},
    ]
    assert whole == pieces == expected
    assert rest == []


ANSWERS = ["New York", 'a "quoted" word', "two\nlines\tand \\ slash", "Zürich 🙂 東京", ""]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_read_while_its_json_is_still_written(tab: Any, answer: str) -> None:
    whole = json.dumps({"citations": ["x"], "answer": answer, "sufficient": True})
    starts = run(
        tab,
        "partial_answer.js",
        "return [...a].map((_, i) => m.partialAnswer(a.slice(0, i)))",
        whole,
    )
    told = [start for start in starts if start is not None]
    assert told and told[-1] == answer
    assert all(
        longer.startswith(shorter.rstrip("\ud83d")) for shorter, longer in itertools.pairwise(told)
    )
    assert run(tab, "partial_answer.js", "return m.partialAnswer(a)", '{"tasks": [') is None


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "unknown"),
        (0, "$0"),
        (0.0017264, "$0.00173"),
        (0.035046, "$0.0350"),
        (1.5, "$1.50"),
        (1234.5, "$1234.50"),
        (-0.02, "−$0.0200"),
    ],
)
def test_dollars_are_shown_with_the_digits_that_matter(tab: Any, amount: float, shown: str) -> None:
    assert run(tab, "format.js", "return m.usd(a)", amount) == shown


def test_no_module_can_turn_text_into_markup() -> None:
    """The ways to do it are not in our files at all; the policy forbids them besides."""
    ways = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")
    ours = [*PAGE.glob("js/*.js"), PAGE / "index.html"]
    assert len(ours) > 15
    found = [f"{file.name}: {way}" for file in ours for way in ways if way in file.read_text()]
    assert not found
    assert "<script>" not in (PAGE / "index.html").read_text()
    assert "style=" not in (PAGE / "index.html").read_text()


def test_the_vendored_viewer_stays_small() -> None:
    assert sum(file.stat().st_size for file in VENDORED.rglob("*") if file.is_file()) < 4 * 1024**2
