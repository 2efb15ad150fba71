from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from toygan.images import ImageFormat, decode, encode, read_digital_source_type
from toygan.publishing.render import (
    MOST_APPROVED,
    MOST_CATEGORIES,
    MOST_FOR_REVIEW,
    MOST_ROWS,
    ReportCategory,
    ReportPicture,
    ReportRow,
    ReportRun,
    render_report,
    sheet_sizes,
)
from toygan.xmp import DIGITAL_SOURCE_TYPE

VOID = {"meta", "img", "br", "link", "input"}


@dataclass
class Page(HTMLParser):
    """What is in the report; every element that opens has to close."""

    html: str
    tags: Counter[str] = field(default_factory=Counter)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)  # tag, name, value
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


def pixels(side: int = 64) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = np.full((side, side, 3), 255, dtype=np.uint8)
    picture[side // 4 : -side // 4, side // 4 : -side // 4] = (200, 20, 30)
    return picture


def picture(side: int = 64, image_format: ImageFormat = "webp", sku: str = "brick-1") -> ReportPicture:
    return ReportPicture(
        sku=sku,
        image_index=0,
        title="Brick 2 x 4",
        language="en",
        colour_hex="#C8141E",
        colour_delta_e=1.25,
        p_real=0.625,
        threshold=0.5,
        reasons=(),
        image_uri=f"images/brick/{sku}/0123.webp",
        image_format=image_format,
        file=encode(pixels(side), image_format),
    )


BRICK = ReportCategory(
    name="brick",
    wanted=10,
    approved=6,
    review=3,
    rejected=21,
    approved_pictures=[picture()],
    review_pictures=[],
)
RUN = ReportRun(
    run_id="nightly-1",
    models=["toybricks@1"],
    catalog_uri="catalog.parquet",
    started_at="2025-01-02 03:04 UTC",
    elapsed_s=125.4,
    images_per_s=12.34,
    products=2000,
    unchanged=7,
    settings={"images_per_product": 1, "mode": "missing"},
    categories=[BRICK],
    rejected_rows=[],
    total_rejected_rows=0,
)


def test_it_needs_nothing_from_outside_and_runs_nothing() -> None:
    page = Page(render_report(RUN))
    assert page.tags["html"] == page.tags["body"] == page.tags["style"] == 1
    assert not page.tags.keys() & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert all(value.startswith("data:image/") for value in page.values("img", "src"))
    assert "url(" not in page.html
    assert "@import" not in page.html
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in page.values("meta", "content")
    assert page.html.startswith("<!doctype html>")


@pytest.mark.parametrize(
    "hostile",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "{{ run }}"],
)
def test_text_from_a_catalog_stays_text(hostile: str) -> None:
    bad = replace(
        picture(),
        title=hostile,
        sku=hostile,
        language=hostile,
        colour_hex=hostile,
        reasons=[hostile],
        image_uri=hostile,
    )
    category = replace(BRICK, name=hostile, approved_pictures=[bad], review_pictures=[bad])
    run = replace(
        RUN,
        run_id=hostile,
        catalog_uri=hostile,
        settings={hostile: hostile},
        warnings=[hostile],
        credit=hostile,
        categories=[category],
        rejected_rows=[ReportRow(row=0, sku=hostile, column=hostile, reason=hostile)],
        total_rejected_rows=1,
    )
    plain, page = Page(render_report(replace(run, run_id="x"))), Page(render_report(run))
    assert hostile in page.text
    assert page.tags["script"] == 0
    assert page.tags["img"] == plain.tags["img"] == 2
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    # Neither title may become code of any kind; a colour that is none never reaches a style.
    assert all("alert" not in value for value in page.values("i", "style"))


def test_a_picture_shows_what_was_decided_about_it() -> None:
    reviewed = replace(
        picture(sku="brick-2"),
        image_index=1,
        language="zh",
        title="红色积木砖",
        reasons=["colour_off", "shape_guessed", "new_reason"],
    )
    page = Page(render_report(replace(RUN, categories=[replace(BRICK, review_pictures=[reviewed])])))
    for text in (
        "Brick 2 x 4",
        "brick-1",
        "0.62",
        "红色积木砖",
        "brick-2",
        "image 2",
        "wrong colour",
        "shape is a guess",
        "new reason",
    ):
        assert text in page.text
    assert "zh" in page.values("p", "lang")
    assert "score 0.625, needed 0.500" in page.values("span", "title")
    assert page.values("a", "href").count("../../images/brick/brick-1/0123.webp") == 1
    assert page.values("i", "style").count("background:#C8141E") == 2  # wanted
    found = [value for value in page.values("i", "title") if value.startswith("main colour #C")]
    assert len(found) == 2
    assert all(value.endswith("distance 1.2") for value in found)


def test_without_a_wanted_colour_only_the_found_one_is_shown() -> None:
    category = replace(BRICK, approved_pictures=[replace(picture(), colour_hex=None, colour_delta_e=None)])
    page = Page(render_report(replace(RUN, categories=[category])))
    [title] = page.values("i", "title")
    assert title.endswith("the catalog asks for none")


def test_the_numbers_of_the_run() -> None:
    car = replace(BRICK, name="car", wanted=1990, approved=1994, review=0, rejected=0)
    text = Page(render_report(replace(RUN, categories=[BRICK, car]))).text
    # 6 + 1994 of 10 + 1990 wanted; 2000 of 2024 candidates.
    for wanted in (
        "100 % of 2,000 wanted",
        "99 % accepted",
        "2 min 05 s",
        "12.3 pictures a second",
        "toybricks@1",
    ):
        assert wanted in text
    assert "60 %" in text  # bricks with a picture
    assert "20 %" in text  # brick candidates accepted, 6 of 30
    assert "every row is good" in text


@pytest.mark.parametrize(("seconds", "wanted"), [(4.26, "4.3 s"), (59.9, "59.9 s"), (3725, "1 h 02 min")])
def test_durations(seconds: float, wanted: str) -> None:
    assert wanted in Page(render_report(replace(RUN, elapsed_s=seconds))).text


def test_a_run_without_anything_has_a_report() -> None:
    page = Page(render_report(replace(RUN, categories=[], products=0, images_per_s=None)))
    assert "0 % of 0 wanted" in page.text
    assert page.tags["img"] == 0


def test_a_category_without_pictures_has_a_line_and_no_link() -> None:
    page = Page(render_report(replace(RUN, categories=[replace(BRICK, approved=0, approved_pictures=[])])))
    assert "brick" in page.text
    assert "#category-0" not in page.values("a", "href")


def test_every_link_inside_has_its_target() -> None:
    rows = [ReportRow(row=1, sku=None, column="sku", reason="null")]
    page = Page(render_report(replace(RUN, rejected_rows=rows, total_rejected_rows=1)))
    inside = {value[1:] for value in page.values("a", "href") if value.startswith("#")}
    assert inside == {"category-0", "rows"}
    assert inside == set(page.values("section", "id"))


def test_rows_that_were_set_aside_are_shown_up_to_a_limit() -> None:
    rows = [
        ReportRow(row=number, sku=f"sku{number}", column="sku", reason="duplicate") for number in range(500)
    ]
    page = Page(render_report(replace(RUN, rejected_rows=rows, total_rejected_rows=123456)))
    assert f"123,456 rows of the catalog were not used; the first {MOST_ROWS} are shown" in page.text
    assert f"sku{MOST_ROWS - 1}" in page.text
    assert f"sku{MOST_ROWS}" not in page.text


def test_thumbnails_are_capped_and_the_total_is_shown() -> None:
    many = replace(
        BRICK, approved=5000, review=400, approved_pictures=[picture()] * 70, review_pictures=[picture()] * 70
    )
    page = Page(render_report(replace(RUN, categories=[many])))
    assert page.tags["img"] == MOST_APPROVED + MOST_FOR_REVIEW
    assert f"5,000 approved, {MOST_APPROVED} of them shown" in page.text
    assert f"({MOST_FOR_REVIEW} shown)" in page.text


def test_more_categories_share_the_thumbnails() -> None:
    assert sheet_sizes(0) == sheet_sizes(10) == (MOST_APPROVED, MOST_FOR_REVIEW)
    assert sheet_sizes(100) == (16, 4)
    assert sheet_sizes(MOST_CATEGORIES) == sheet_sizes(10**6) == (1, 1)


@pytest.mark.parametrize("categories", [30, MOST_CATEGORIES + 500])
@pytest.mark.slow
def test_the_report_of_a_huge_run_stays_below_ten_megabytes(categories: int) -> None:
    noise = np.random.default_rng(0).normal(0, 6, (128, 128, 3))
    file = encode(np.clip(pixels(128) + noise, 0, 255).astype(np.uint8), "webp")
    shown = [replace(picture(), file=file)] * MOST_APPROVED
    one = replace(BRICK, approved=10**6, review=10**5, approved_pictures=shown, review_pictures=shown)
    html = render_report(replace(RUN, categories=[one] * categories))
    assert len(html.encode()) < 10e6
    if categories > MOST_CATEGORIES:
        assert "500 more categories are counted above" in html


@pytest.mark.parametrize(("side", "image_format"), [(64, "webp"), (64, "jpg"), (128, "webp")])
def test_a_small_file_is_embedded_as_it_is(side: int, image_format: ImageFormat) -> None:
    shown = picture(side, image_format)
    page = Page(render_report(replace(RUN, categories=[replace(BRICK, approved_pictures=[shown])])))
    head, data = page.values("img", "src")[0].split(",")
    assert head == {"webp": "data:image/webp;base64", "jpg": "data:image/jpeg;base64"}[image_format]
    assert b64decode(data) == shown.file


def test_a_thumbnail_still_says_that_it_is_synthetic() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for large in (picture(512, "jpg"), replace(picture(), file=encode(noise, "png"), image_format="png")):
        page = Page(render_report(replace(RUN, categories=[replace(BRICK, approved_pictures=[large])])))
        head, data = page.values("img", "src")[0].split(",")
        assert head == "data:image/webp;base64"
        assert max(decode(b64decode(data)).shape) <= 128
        assert read_digital_source_type(b64decode(data)) == DIGITAL_SOURCE_TYPE


def test_damaged_pictures_are_named_and_the_others_shown() -> None:
    bad = [replace(picture(), file=b"x", image_uri=f"images/{number}.webp") for number in range(25)]
    category = replace(BRICK, approved_pictures=[*bad, picture()], review_pictures=[])
    page = Page(render_report(replace(RUN, categories=[category], missing=["images/-.webp"])))
    assert len(page.values("img", "src")) == 1
    assert "missing or damaged pictures: images/-.webp, images/0.webp, images/1.webp, " in page.text
    assert "and 6 more; see `toygan verify`" in page.text


def test_the_same_run_gives_the_same_report() -> None:
    assert render_report(RUN) == render_report(RUN)
