"""The figures of the review page: `python -m tests.benchmarks review`.

`python -m tests.benchmarks.review INTERLEAVINGS` plays only that many interleavings of two reviewers, a night
and an export. `python -m tests.benchmarks.review memory` measures only the memory of the server, without a
browser.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import Browser, Page

from tests.toygan.review.browsers import ReviewProcess, a_browser
from tests.toygan.review.gallery_store import fill
from tests.toygan.review.interleavings import play
from toygan.planning.decisions import stored_decisions
from toygan.publishing.verify import verify
from toygan.storage.local import LocalStore

DECIDED, LISTED, INTERLEAVINGS = 500, 20_000, 1_000
IN_A_ROW, SELECTED, PEOPLE = 3_000, 10, 24  # decisions without a browser: in selections, by people at once

# From the key to the frame in which the next picture is complete, as the browser measures it.
TIMES = """
window.times = [];
document.addEventListener("keydown", () => {
  const began = performance.now(), image = document.getElementById("picture"), before = image.dataset.id;
  const look = () => {
    const isShown = image.dataset.id !== before && image.complete && image.naturalWidth;
    if (isShown) times.push(performance.now() - began);
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}, true);
"""
LISTED_AT = """
window.addEventListener("DOMContentLoaded", () => {
  new MutationObserver((_, observer) => {
    if (!document.querySelector("#grid img")) return;
    window.listedAt = performance.now();
    observer.disconnect();
  }).observe(document, { subtree: true, childList: true });
});
"""


@contextmanager
def page_of(browser: Browser, candidates: int, side: int) -> Iterator[tuple[Page, ReviewProcess, Path]]:
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as name:
        fill(LocalStore(Path(name)), candidates, side=side)
        server = ReviewProcess(Path(name))
        page = browser.new_page(viewport={"width": 1280, "height": 800}, bypass_csp=True)
        try:
            yield page, server, Path(name)
        finally:
            page.close()
            server.stop()


def decide_by_keys(browser: Browser) -> None:
    with page_of(browser, DECIDED, 512) as (page, server, folder):
        process = psutil.Process(server.process.pid)
        page.goto(server.url)
        page.locator("#by").fill("Ann")
        page.locator("#by").blur()
        page.wait_for_selector("#picture[data-id]")
        page.evaluate(TIMES)
        memory = []
        for number in range(DECIDED):
            if number % 100 == 0:
                memory.append(process.memory_info().rss >> 20)
            seen = page.evaluate("times.length")
            page.keyboard.press("ard"[number % 3])
            if number < DECIDED - 1:
                page.wait_for_function(f"times.length > {seen}")
        page.wait_for_function(f"document.getElementById('status').textContent === '{DECIDED} saved'")
        memory.append(process.memory_info().rss >> 20)
        times = page.evaluate("times")
        kinds = stored_decisions(LocalStore(folder))["decision"].to_pylist()
        wanted = [["approve", "reject", "redraw"][number % 3] for number in range(DECIDED)]
        problems = len(verify(LocalStore(folder)).problems)
    print(f"keys pressed {DECIDED}, decisions in the store {len(kinds)}, in order: {kinds == wanted}")
    print(f"problems that verify finds: {problems}")
    print(f"from key to next picture: median {statistics.median(times):.0f} ms, largest {max(times):.0f} ms")
    print(f"memory of the server every 100 decisions: {', '.join(map(str, memory))} MiB")


def measure_memory() -> None:
    """Prints the resident memory of the server while many people look at pictures and decide about them."""
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as name:
        ids = [row["image_id"] for row in fill(LocalStore(Path(name)), DECIDED, side=512)]
        server = ReviewProcess(Path(name))
        process = psutil.Process(server.process.pid)
        limits = httpx.Limits(max_connections=PEOPLE)
        with (
            httpx.Client(base_url=server.url, timeout=60, limits=limits) as client,
            ThreadPoolExecutor(PEOPLE) as pool,
        ):
            headers = {"X-CSRF-Token": client.get("/api/session").json()["csrf"]}

            def decide(first: int) -> None:
                """Decides about a selection of SELECTED pictures, and looks at one of them."""
                one_kind = {"decision": ("approve", "reject", "redraw")[first // SELECTED % 3], "by": "Ann"}
                said = [
                    {"decision_id": f"{number:032x}", "image_id": ids[number % DECIDED]} | one_kind
                    for number in range(first, first + SELECTED)
                ]
                answer = client.post("/api/decisions", json={"decisions": said}, headers=headers)
                assert len(answer.json()["saved"]) == SELECTED, answer.text
                shown = ids[first % DECIDED]
                for path in (f"/pictures/{shown}", f"/api/pictures/{shown}", "/api/pictures"):
                    assert client.get(path).status_code == 200

            for first in range(0, IN_A_ROW, DECIDED):
                print(f"{first:,} decisions: {process.memory_info().rss >> 20} MiB", flush=True)
                list(pool.map(decide, range(first, first + DECIDED, SELECTED)))
            print(f"{IN_A_ROW:,} decisions: {process.memory_info().rss >> 20} MiB")
        server.stop()


def list_many(browser: Browser) -> None:
    with page_of(browser, LISTED, 64) as (page, server, _):
        page.add_init_script(LISTED_AT)
        for visit in ("first", "second"):
            page.goto(server.url)
            page.wait_for_function("window.listedAt")
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            listed = page.evaluate("listedAt")
            print(f"{visit} visit: first paint {paint:.0f} ms, pictures listed {listed:.0f} ms,", end=" ")
            print(page.locator("#count").inner_text())


def play_many(interleavings: int) -> None:
    """Plays them in stores that are folders; raises AssertionError for a lost decision or a problem."""
    began_s = time.perf_counter()
    for seed in range(interleavings):
        with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as name:
            play(seed, LocalStore(Path(name) / "store"), Path(name))
        if (seed + 1) % 100 == 0:
            print(f"{seed + 1:,} of {interleavings:,}", flush=True)
    took_s = time.perf_counter() - began_s
    print(
        f"{interleavings:,} interleavings: 0 decisions lost, verify clean, exports hold what is live; "
        f"{took_s:.0f} s"
    )


def main() -> None:
    """Prints each figure on a line."""
    with a_browser() as browser:
        decide_by_keys(browser)
        list_many(browser)
    measure_memory()
    play_many(INTERLEAVINGS)


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        measure_memory()
    elif len(sys.argv) > 1:
        play_many(int(sys.argv[1]))
    else:
        main()
