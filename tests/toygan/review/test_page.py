"""The review page in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.toygan.publishing.store_pages import counts, page_of, put_run
from tests.toygan.review.browsers import LIMIT_MS, ReviewProcess, a_browser
from tests.toygan.review.gallery_store import fill
from tests.toygan.review.shop import SETTINGS, live
from toygan.planning.decisions import stored_decisions
from toygan.publishing.verify import verify
from toygan.storage.local import LocalStore
from toygan.storage.memory import MemoryStore

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("store")
    fill(LocalStore(made), 120)  # more than a list loads at once, whatever the tests decide
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ReviewProcess]:
    started = ReviewProcess(folder)
    yield started
    started.stop()


@pytest.fixture
def page(browser: Browser, server: ReviewProcess) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.errors = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.errors.append(error))  # type: ignore[attr-defined]
    page.on("request", lambda asked: page.errors.append(asked.url) if server.url not in asked.url else None)  # type: ignore[attr-defined]
    page.set_default_timeout(LIMIT_MS)
    page.goto(server.url)
    page.locator("#by").fill("Ann")
    page.locator("#by").blur()
    expect(page.locator("#picture[data-id]")).to_be_visible()
    yield page
    assert page.errors == []  # type: ignore[attr-defined]
    context.close()


def decided(folder: Path) -> list[tuple[str, str]]:
    table = stored_decisions(LocalStore(folder))
    return list(zip(table["decision"].to_pylist(), table["sku"].to_pylist(), strict=True))


def test_keys_decide_and_take_back(page: Page, folder: Path) -> None:
    before, there = len(decided(folder)), live(LocalStore(folder))
    first = page.locator("#title").inner_text()
    for key in ("a", "r", "d"):
        page.keyboard.press(key)
    expect(page.locator("#status")).to_have_text("3 saved")
    assert [kind for kind, _ in decided(folder)[before:]] == ["approve", "reject", "redraw"]
    for _ in range(3):
        page.keyboard.press("u")
    expect(page.locator("#title")).to_have_text(first)
    expect(page.locator("#status")).to_have_text("6 saved")
    assert live(LocalStore(folder)) == there
    page.keyboard.press("u")
    expect(page.locator("#status")).to_have_text("There is nothing to take back on this page.")


def test_a_selection_is_decided_at_once(page: Page, folder: Path) -> None:
    before = len(decided(folder))
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.locator("#why").fill("too dark")
    page.locator("#why").blur()
    page.keyboard.press("r")
    expect(page.locator("#status")).to_have_text("3 saved")
    assert [kind for kind, _ in decided(folder)[before:]] == ["reject"] * 3
    assert stored_decisions(LocalStore(folder))["reason"].to_pylist()[-3:] == ["too dark"] * 3


def test_filters_stand_in_the_address(page: Page, server: ReviewProcess, folder: Path) -> None:
    page.get_by_role("button", name="Live").click()
    expect(page.locator("#count")).to_have_text(f"{len(live(LocalStore(folder)))} pictures")
    page.goto(f"{server.url}?show=review&text=Toy+5")
    expect(page.locator("#count")).to_contain_text("pictures")
    titles = page.locator(".label").all_inner_texts()
    assert titles
    assert all("Toy 5" in title for title in titles)
    address = page.url
    page.keyboard.press("ArrowRight")
    page.goto(page.url)
    assert page.url != address
    expect(page.locator("#title")).to_have_text(titles[1])


def test_more_pictures_come_by_scrolling(page: Page) -> None:
    shown = page.locator("#grid li").count()
    page.locator("#grid li").last.scroll_into_view_if_needed()
    expect(page.locator("#grid li")).not_to_have_count(shown)


def test_a_list_that_cannot_go_on_is_asked_for_once_a_decision(page: Page, folder: Path) -> None:
    before, asked = len(decided(folder)), list[str]()

    def fail(route: Route) -> None:
        asked.append(route.request.url)
        route.abort()

    page.route("**/api/pictures?*", fail)
    shown = page.locator("#grid li").count()
    page.locator("#grid button").last.click()
    with page.expect_response("**/api/decisions"):
        page.keyboard.press("r")
    for _ in range(20):
        page.evaluate("fetch('/api/session')")
    assert 1 <= len(asked) < 10
    assert len(decided(folder)) == before + 1
    page.unroute("**/api/pictures?*")
    page.keyboard.press("r")
    expect(page.locator("#grid li")).not_to_have_count(shown)
    expect(page.locator(f"#grid li:nth-child({shown + 1}) button")).to_have_attribute("aria-current", "true")


def test_decisions_outlive_the_server_and_the_page(
    page: Page, server: ReviewProcess, folder: Path, browser: Browser
) -> None:
    before = len(decided(folder))
    server.stop()
    page.keyboard.press("r")
    page.keyboard.press("r")
    expect(page.locator("#status")).to_contain_text("2 not saved yet")
    assert len(decided(folder)) == before
    server.start()  # with another token against foreign pages
    expect(page.locator("#status")).to_have_text("2 saved")
    server.stop()
    page.keyboard.press("r")
    expect(page.locator("#status")).to_contain_text("1 not saved yet")
    page.close()
    server.start()
    again = page.context.new_page()
    again.goto(server.url)
    expect(again.locator("#status")).to_have_text("1 saved")
    assert len(decided(folder)) == before + 3
    assert verify(LocalStore(folder)).problems == ()


def test_two_people_at_once_lose_nothing(page: Page, server: ReviewProcess, folder: Path) -> None:
    before = len(decided(folder))
    other = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
    other.goto(server.url)
    other.locator("#by").fill("Bo")
    other.locator("#by").blur()
    expect(other.locator("#picture[data-id]")).to_be_visible()
    for _ in range(8):
        page.keyboard.press("a")
        other.keyboard.press("r")
    for each in (page, other):
        expect(each.locator("#status")).to_have_text("8 saved")
    assert len(decided(folder)) == before + 16
    assert verify(LocalStore(folder)).problems == ()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_picture_and_buttons(browser: Browser, server: ReviewProcess, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844},
        color_scheme=scheme,  # type: ignore[arg-type]
        has_touch=True,
    )
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#picture[data-id]")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Approve").tap()
    expect(page.locator("#status")).to_have_text("Please enter your name first.")
    context.close()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_the_page_of_a_store_without_scrolling_sideways(browser: Browser, width: int) -> None:
    store = MemoryStore()
    for number in range(1, 4):
        totals = counts(planned=12_345, approved=2_345, review=12_345, rejected=1, exhausted=12_345)
        put_run(store, number, SETTINGS, "Toys > Building Toys > Interlocking Blocks", totals)
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.set_content(page_of(store))
    assert page.locator("tbody td").last.inner_text() == "12345"
    sideways = "each => each.filter(one => one.scrollWidth > one.clientWidth).length"
    assert page.locator("html, .scroll").evaluate_all(sideways) == 0
    page.close()
