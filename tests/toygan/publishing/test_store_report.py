"""The page of a store over its nights."""

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from catalog_schemas.runs import Manifest
from flows.cli import cli
from tests.toygan.publishing.store_pages import counts, page_of, put_run
from tests.toygan.review.shop import SETTINGS, commit, picture
from toygan.errors import BadInput
from toygan.planning.finished import read_manifest
from toygan.planning.plan import RunSettings
from toygan.review.record import decide
from toygan.storage.keys import STORE_REPORT_KEY, manifest_key
from toygan.storage.local import LocalStore
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

NAUGHTY = "bricks <script>alert(1)</script>"


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.found.append(tag)


def read_whole(store: ObjectStore) -> Manifest:
    made = read_manifest(store, "run-1")
    assert made is not None
    return replace(made, counts=counts(planned=1, approved=1), categories={})


def test_the_page_plots_every_run_and_marks_a_new_champion() -> None:
    store = MemoryStore()
    other = RunSettings(models={"main": "toybricks@" + "f" * 12})
    for number, settings in enumerate((SETTINGS, SETTINGS, other), 1):
        totals = counts(planned=4, approved=number, review=4 - number, exhausted=0)
        put_run(store, number, settings, NAUGHTY, totals)
    html = page_of(store, (datetime(2026, 11, 1, tzinfo=UTC), f"{NAUGHTY} is the champion"))
    tags = Tags(html).found
    assert tags.count("svg") == 7 + 2
    assert html.count('class="change"') == 7
    assert "Retrainings over 3 runs, now 1" in html
    assert "2026-11-01: bricks &lt;script&gt;" in html
    assert "toybricks@" + "f" * 12 in html
    assert "75 %" in html
    assert 'points="0.0,90.0 280.0,60.0 560.0,30.0"' in html  # coverage of 1, 2, 3 of 4
    assert "script" not in tags
    assert "http" not in html.replace("http-equiv", "")


def test_decisions_are_counted_by_day() -> None:
    store = MemoryStore()
    row = picture(0, "run-1")
    commit(store, "run-1", row)
    decide(store, "reject", [row["image_id"]], by="Ann", reason=None)
    made = replace(read_whole(store), started_at="2126-11-01T00:00:00+00:00")
    store.put(manifest_key("run-1"), made.to_json().encode())
    assert "Decisions over 1 runs, now 1" in page_of(store)


def test_an_empty_store_has_no_page() -> None:
    with pytest.raises(BadInput, match="no finished run"):
        page_of(MemoryStore())


def test_the_command_takes_a_run_or_the_store(tmp_path: Path) -> None:
    put_run(LocalStore(tmp_path), 1, SETTINGS, "brick", counts(planned=1, approved=1))
    said = CliRunner().invoke(cli, ["report", "--output", str(tmp_path), "--store"])
    assert said.output.strip().endswith(STORE_REPORT_KEY)
    assert (tmp_path / STORE_REPORT_KEY).is_file()
    both = CliRunner().invoke(cli, ["report", "--output", str(tmp_path), "--store", "--run-id", "run-1"])
    assert "either" in both.output


def test_uploads_list_counts_quarantine_and_photos(tmp_path: Path) -> None:
    said = CliRunner().invoke(cli, ["uploads", "list", "--store", str(tmp_path)])
    assert said.output == "0 photos can be used, 0 are in quarantine\n"
