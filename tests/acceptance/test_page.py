"""The page as people use it: the real service, a real browser, a simulated cloud."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from eval.rows import Manifest, StrategySpec, write_manifest
from minions.cloud.sim import SimPlan, running
from tests.acceptance.test_openai_chat import two_keys
from tests.browser import Visit, chromium, visiting
from tests.house import CONTRACT
from tests.served import served

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="axe is not installed: pip install axe-playwright-python",
)
SAMPLE = Path(__file__).parents[2] / "minions/demo/contract.pdf"
EVALUATION = Manifest(
    dataset="own",
    source="the user",
    licence="own",
    strategies=(StrategySpec(label="local", options={}),),
    worker="scripted",
    cloud="gpt-4.1",
    price_snapshot="p",
    seed=0,
    limit=None,
    n_items=2,
    kinds={"law": 2},
    items_sha256="0",
    created_at="2026-01-01T00:00:00+00:00",
    versions={},
)
LAW = "Which state's laws govern this agreement?"
HOSTILE = """<h1>Policy</h1><script>document.title = "hacked"</script>
<img src=x onerror="document.title = 'hacked'"> 🙂 <b>bold</b> &lt;i&gt;
The governing law of <svg onload="document.title = 'hacked'"> this agreement is the law of Iceland.
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def cloud() -> Iterator[str]:
    with running(SimPlan()) as url:
        yield url


@pytest.fixture(scope="module")
def service(cloud: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """With the contract as its one document."""
    state = tmp_path_factory.mktemp("state")
    with served(state, cloud_url=cloud) as running_service, running_service.client() as client:
        upload(client, "contract.pdf", SAMPLE.read_bytes())
        write_manifest(state / "evals" / "own-run", EVALUATION)
        yield client


@pytest.fixture
def visit(browser: Any, service: httpx.Client) -> Iterator[Visit]:
    with visiting(browser, str(service.base_url)) as opened:
        await_load(opened.page)
        yield opened


def await_load(page: Any) -> None:
    """Until the page shows what the service has."""
    page.wait_for_selector("#desk:not([aria-busy])")


def upload(client: httpx.Client, name: str, data: bytes) -> str:
    answer = client.post("/v1/documents", files={"file": (name, data)})
    assert answer.status_code == 201, answer.text
    document_id: str = answer.json()["id"]
    return document_id


def ask(page: Any, question: str) -> Any:
    """Ask, wait for the end, and give the question's card."""
    before = page.locator(".card").count()
    page.fill("#question", question)
    page.keyboard.press("Enter")
    card = page.locator(".card").nth(before)
    card.locator(".answer[data-kind=final], .end").first.wait_for()
    return card


def choose_only(page: Any, name: str) -> None:
    """Tick this document and no other."""
    for item in page.locator(".document").all():
        item.locator("input").set_checked(name in item.inner_text())


def folded(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()


def test_a_question_is_asked_and_its_quote_is_marked_on_the_pdf_page(visit: Visit) -> None:
    page = visit.page
    choose_only(page, "contract.pdf")
    card = ask(page, LAW)
    assert "New York" in card.locator(".answer-text").inner_text()
    states = card.locator(".cells .cell").evaluate_all("all => all.map((c) => c.dataset.state)")
    assert len(states) > 5
    assert set(states) <= {"answered", "abstained", "cached"}
    quote = card.locator(".citation q").first.inner_text()
    card.locator("button.citation").first.click()
    page.locator(".textLayer mark").first.wait_for()
    marked = "".join(page.locator(".textLayer mark").all_inner_texts())
    assert folded(marked) == folded(quote)
    assert page.locator("#viewer-number").input_value() == "19"
    box = page.locator(".textLayer mark").first.bounding_box()
    assert box["width"] > 5 and 0 < box["y"] < 860, "it is in sight"


def test_the_receipt_and_the_ladder_say_what_the_service_says(
    visit: Visit, service: httpx.Client
) -> None:
    choose_only(visit.page, "contract.pdf")
    card = ask(visit.page, LAW)
    reply = service.get("/v1/questions?limit=1").json()["data"][0]["reply"]
    used = card.locator("tr[aria-current]")
    assert used.get_attribute("data-rung") == reply["rung"]
    assert f"{reply['p_correct']:.2f}" in used.inner_text()
    receipt = card.locator(".receipt").inner_text()
    assert f"{reply['cost']['local_tokens']:,}" in receipt
    assert f"{reply['cost']['cloud_tokens']:,}" in receipt
    assert f"{reply['cost']['savings_ratio'] * 100:.0f}%" in receipt
    assert reply["reason"].replace("`", "") in card.locator(".why").inner_text()


def test_a_rung_is_bought_and_what_left_is_shown(visit: Visit, service: httpx.Client) -> None:
    page = visit.page
    choose_only(page, "contract.pdf")
    card = ask(page, LAW)
    count = page.locator(".card").count()
    card.locator("tr[data-rung=document] button").click()
    bought = page.locator(".card").nth(count)
    bought.locator(".answer[data-kind=final]").wait_for()
    assert bought.locator("tr[aria-current]").get_attribute("data-rung") == "document"
    cached = bought.locator(".cells .cell[data-state=cached]").count()
    assert cached == bought.locator(".cells .cell").count() > 5, "nothing is read twice"
    egress = service.get("/v1/egress", params={"question": _id_of(bought)}).json()
    bought.locator(".egress summary").click()
    shown = bought.locator(".egress").inner_text()
    assert f"{egress['n_bytes'] / 1000:.1f} kB" in shown
    assert egress["calls"][0]["destination"] in shown
    bought.locator(".egress-body button").first.click()
    page.locator("#viewer-stage .pdf-page").wait_for()


def _id_of(card: Any) -> str:
    identifier: str = card.get_attribute("id")
    return identifier.removeprefix("q-")


def test_a_follow_up_shows_what_it_goes_on_from(visit: Visit, service: httpx.Client) -> None:
    page = visit.page
    choose_only(page, "contract.pdf")
    first = ask(page, LAW)
    card = ask(page, "Why is that?")
    assert card.locator("h2").inner_text() == "Why is that?"
    link = card.locator(".before a")
    assert link.inner_text() == LAW
    assert link.get_attribute("href") == f"#{first.get_attribute('id')}"
    stands = ask(page, "Which company delivers the pumps in March of the year 2021?")
    assert stands.locator(".before").count() == 0
    (newest, leaning) = service.get("/v1/questions?limit=2").json()["data"]
    assert newest["question"]["follows"] == leaning["id"]
    assert LAW in leaning["question"]["question"]
    page.reload()
    await_load(page)
    assert page.locator(f"#q-{leaning['id']} .before a").inner_text() == LAW


def test_every_option_of_a_question_can_be_set(visit: Visit, service: httpx.Client) -> None:
    page = visit.page
    choose_only(page, "contract.pdf")
    page.click("#options-summary")
    page.click("#more-options summary")
    wishes = {"value_usd": "0.5", "alpha": "2", "max_latency_s": "3600", "max_cost_usd": "0.01"}
    for name, value in wishes.items():
        page.fill(f"#options [name={name}]", value)
    page.select_option("#options [name=effort]", "low")
    page.check("#options [name=fresh]")
    page.keyboard.press("Escape")
    assert page.locator("#options-summary").inner_text() == "Options (6 set)"
    page.fill("#question", LAW)
    page.keyboard.press("Enter")
    assert "between 0 and 1" in page.locator("#composer-trouble").inner_text()
    page.click("#options-summary")
    assert page.locator("#more-options").get_attribute("open") is not None
    page.fill("#options [name=alpha]", "")
    page.keyboard.press("Escape")
    ask(page, LAW)
    (asked,) = service.get("/v1/questions?limit=1").json()["data"]
    sent = {name: asked["question"][name] for name in (*wishes, "effort", "fresh")}
    assert {name: float(sent[name]) for name in ("value_usd", "max_cost_usd")} == {
        "value_usd": 0.5,
        "max_cost_usd": 0.01,
    }
    assert (sent["max_latency_s"], sent["effort"], sent["fresh"]) == (3600, "low", True)
    assert sent["alpha"] is None


def test_a_reload_restores_everything(visit: Visit) -> None:
    page = visit.page
    choose_only(page, "contract.pdf")
    card = ask(page, LAW)
    before = card.locator(".answer").inner_text()
    n_cells = card.locator(".cells .cell").count()
    asked = []
    page.on("request", lambda request: asked.append((request.method, request.url)))
    page.reload()
    await_load(page)
    again = page.locator(".card").last
    again.locator(".ladder").wait_for()
    assert again.locator(".answer").inner_text() == before
    again.locator(".reading summary").click()
    again.locator(".legend").wait_for()
    page.wait_for_function(
        "n => document.querySelectorAll('.card:last-child .cells .cell').length === n", arg=n_cells
    )
    assert again.locator(".cells .cell[data-state=waiting]").count() == 0
    assert not [url for method, url in asked if method == "POST" and "/estimate" not in url]


def test_savings_are_drawn(visit: Visit, service: httpx.Client) -> None:
    choose_only(visit.page, "contract.pdf")
    ask(visit.page, LAW)
    visit.page.click("#savings-panel summary")
    drawing = visit.page.locator("#savings svg")
    drawing.wait_for()
    n = len(service.get("/v1/savings").json()["questions"])
    points = drawing.locator(".paid-line").get_attribute("points").split()
    assert len(points) == n + 1
    assert "the cloud alone $" in drawing.get_attribute("aria-label")


def test_machines_and_evaluations_are_listed(visit: Visit) -> None:
    page = visit.page
    page.click("#nodes-panel summary")
    page.locator("#nodes li").first.wait_for()
    assert "scripted" in page.locator("#nodes").inner_text()
    page.click("#evals-panel summary")
    page.locator("#evals li").first.wait_for()
    assert "own-run" in page.locator("#evals").inner_text()
    assert "0 of 2" in page.locator("#evals").inner_text()
    with page.context.expect_page() as opened:
        page.locator("#evals a").click()
    opened.value.wait_for_load_state()
    assert opened.value.url.endswith("/v1/evals/own-run/report.html")
    assert "own" in opened.value.locator("body").inner_text()


def test_hostile_text_stays_text(visit: Visit) -> None:
    page = visit.page
    name = "<img src=x onerror=alert(1)>.txt"
    page.set_input_files(
        "#files", [{"name": name, "mimeType": "text/plain", "buffer": HOSTILE.encode()}]
    )
    page.locator(".document", has_text="onerror").locator("input").wait_for()
    choose_only(page, "onerror")
    card = ask(page, "What is the <b>governing law</b> of this agreement?<script>1</script>")
    assert "<b>governing law</b>" in card.locator("h2").inner_text()
    assert "Iceland" in card.locator(".answer-text").inner_text()
    quote = card.locator(".citation q").first.inner_text()
    card.locator("button.citation").first.click()
    mark = page.locator(".text-page mark")
    mark.wait_for()
    assert folded(mark.inner_text()) == folded(quote)
    assert "<script>" in page.locator(".text-page").inner_text()
    assert page.title() == "Minions"
    bad = "img, script:not([src]), svg[onload], .card b > b, .text-page *:not(mark)"
    assert page.locator(bad).count() == 0


def test_the_browser_itself_refuses_markup_from_text(visit: Visit) -> None:
    """Where Trusted Types are known, the policy turns any such slip into an error."""
    refused = visit.page.evaluate(
        "() => { try { document.body.innerHTML = '<i>x</i>'; return false } catch { return true } }"
    )
    assert refused
    assert visit.complaints, "the breach is reported, so the other tests would see one"
    visit.complaints.clear()


def test_troubles_are_told_in_words(visit: Visit) -> None:
    page = visit.page
    trouble = page.locator("#composer-trouble")
    page.fill("#question", "   ")
    page.click("#ask")
    assert trouble.inner_text() == "Write a question first."
    for box in page.locator(".document input").all():
        box.uncheck()
    page.fill("#question", LAW)
    page.click("#ask")
    assert "Tick at least one document" in trouble.inner_text()
    page.set_input_files(
        "#files", [{"name": "cut.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 cut"}]
    )
    refused = page.locator(".document.refused")
    refused.wait_for()
    assert "cut short" in refused.inner_text()
    refused.locator("button").click()
    assert page.locator(".document.refused").count() == 0
    assert len(visit.refusals()) == 1


def test_cancel_cancels(visit: Visit, service: httpx.Client, cloud: str) -> None:
    page = visit.page
    httpx.post(f"{cloud.removesuffix('/v1')}/sim/faults", json=[{"kind": "timeout"}])
    choose_only(page, "contract.pdf")
    page.fill("#question", "What does the cloud alone say of this?")
    page.click("#options-summary")
    page.select_option("select[name=strategy]", "cloud")
    page.get_by_role("button", name="Done").click()
    assert page.locator("#options-summary").inner_text() == "Options (1 set)"
    before = page.locator(".card").count()
    page.click("#ask")
    card = page.locator(".card").nth(before)
    card.get_by_role("button", name="Cancel").click()
    card.locator(".end.cancelled").wait_for()
    assert service.get(f"/v1/questions/{_id_of(card)}").json()["status"] == "cancelled"
    httpx.post(f"{cloud.removesuffix('/v1')}/sim/reset")


def test_a_broken_stream_is_taken_up_where_it_broke(visit: Visit) -> None:
    page = visit.page
    choose_only(page, "contract.pdf")
    came_back_with = []

    def cut_the_first(route: Any) -> None:
        seen = route.request.headers.get("last-event-id")
        came_back_with.append(seen)
        if len(came_back_with) == 1:
            route.abort()
        elif len(came_back_with) == 2:
            whole = route.fetch().text()
            half = whole[: whole.index("\n\n", len(whole) // 3) + 2]
            route.fulfill(body=half, content_type="text/event-stream")
        else:
            route.continue_()

    page.route("**/events", cut_the_first)
    card = ask(page, LAW)
    assert came_back_with[:2] == [None, None]
    assert int(came_back_with[2]) > 3
    states = card.locator(".cells .cell").evaluate_all("all => all.map((c) => c.dataset.state)")
    assert len(states) > 5 and "waiting" not in states and "skipped" not in states
    assert len(visit.refusals()) == 1


def test_everything_works_by_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    choose_only(page, "contract.pdf")
    page.locator("#choose").focus()
    page.keyboard.press("/")
    assert _focused(page) == "question"
    page.keyboard.type(LAW)
    before = page.locator(".card").count()
    page.keyboard.press("Enter")
    card = page.locator(".card").nth(before)
    card.locator(".answer[data-kind=final]").wait_for()
    _shift_tab_to(page, "citation")
    page.keyboard.press("Enter")
    page.locator("#viewer-stage mark").first.wait_for()
    assert _focused(page) == "viewer"
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.getElementById('viewer-number').value === '20'")
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()
    assert "citation" in _focused(page)
    _shift_tab_to(page, "cell")
    first = page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.ariaLabel") != first
    assert "page" in card.locator(".caption").inner_text()


def _focused(page: Any) -> str:
    name: str = page.evaluate("document.activeElement.id || document.activeElement.className")
    return name


def _shift_tab_to(page: Any, name: str) -> None:
    """Back through the page, at most thirty stops: a grid must be one stop, not hundreds."""
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        if name in _focused(page).split():
            ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none", "the focus can be seen"
            return
    raise AssertionError(f"no {name} within thirty stops")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_fits_and_can_be_read(
    browser: Any, service: httpx.Client, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 740}
    with visiting(
        browser, str(service.base_url), viewport=size, color_scheme=scheme, reduced_motion="reduce"
    ) as visit:
        page = visit.page
        await_load(page)
        choose_only(page, "contract.pdf")
        card = ask(page, LAW)
        assert _overflow(page) == 0
        assert _barriers(page, "#library", ".card:last-child", "#composer") == []
        assert page.evaluate("document.getAnimations().length") == 0
        card.locator("button.citation").first.click()
        page.locator("#viewer-stage mark").first.wait_for()
        assert _overflow(page) == 0
        assert _barriers(page, "#viewer > header", "#viewer-note", "#viewer-stage") == []
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (min(map(int, re.findall(r"\d+", paper))) > 200) == (scheme == "light")


def _overflow(page: Any) -> int:
    """Pixels that the page is wider than the window."""
    over: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return max(0, over)


def _barriers(page: Any, *parts: str) -> list[str]:
    """What axe-core finds in these parts against WCAG 2.2 level AA: names, roles, contrast."""
    context = {"include": [[part] for part in parts], "exclude": [[".textLayer"]]}
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}
    found = axe.Axe().run(page, context=context, options=rules)
    return [
        f"{violation['id']}: {node['html'][:120]}"
        for violation in found.response["violations"]
        for node in violation["nodes"]
    ]


def test_a_document_is_deleted(visit: Visit, service: httpx.Client) -> None:
    document_id = upload(service, "short.txt", CONTRACT.encode())
    page = visit.page
    page.reload()
    await_load(page)
    item = page.locator(".document", has_text="short.txt")
    page.once("dialog", lambda dialog: dialog.accept())
    item.get_by_role("button", name="Delete short.txt").click()
    item.wait_for(state="detached")
    assert service.get(f"/v1/documents/{document_id}").status_code == 404


def test_a_key_is_asked_for_and_a_lost_service_is_said_to_be_lost(
    browser: Any, cloud: str, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as pool:  # in this thread the browser's loop runs
        token, _ = pool.submit(asyncio.run, two_keys(tmp_path / "minions.db")).result()
    with contextlib.ExitStack() as stack:
        with served(tmp_path, cloud_url=cloud) as service:
            visit = stack.enter_context(visiting(browser, service.url))
            _sign_in(visit, token)
            _use_the_key(visit)
        _ask_nobody(visit)


def _sign_in(visit: Visit, token: str) -> None:
    """With a wrong key first."""
    page = visit.page
    page.locator("#key").fill("mk_wrong")
    page.keyboard.press("Enter")
    page.locator("#key-refusal:not(:empty)").wait_for()
    page.locator("#key").fill(token)
    page.keyboard.press("Enter")
    page.locator("#welcome:not([hidden])").wait_for()
    refusals = visit.refusals()
    assert refusals and all("401" in text for text in refusals)


def _use_the_key(visit: Visit) -> None:
    """It goes with uploads, questions, streams and the PDF's own bytes."""
    page = visit.page
    page.set_input_files("#files", str(SAMPLE))
    page.locator(".document input").wait_for()
    card = ask(page, LAW)
    card.locator("button.citation").first.click()
    page.locator(".textLayer mark").first.wait_for()
    page.keyboard.press("Escape")


def _ask_nobody(visit: Visit) -> None:
    page = visit.page
    page.fill("#question", LAW)
    page.click("#ask")
    page.locator("#composer-trouble:not(:empty)").wait_for()
    assert "minions serve" in page.locator("#composer-trouble").inner_text()
    assert page.locator("#question").input_value() == LAW, "what was written is kept"
    visit.refusals()
