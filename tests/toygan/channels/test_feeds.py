"""Feeds and collages of exports, read by parsers that share no code with them."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.toygan.channels.checker import violations
from tests.toygan.channels.exports import BASE, BLUE, GREEN, HI, place_of, run, shop, stamps, table
from tests.toygan.channels.shop import Article, put_shop, toy
from toygan.channels.export import ExportRequest, export
from toygan.storage.local import LocalStore

pytestmark = pytest.mark.usefixtures("producer")


def test_merchant_feeds_name_every_product_once(store: LocalStore) -> None:
    put_shop(store, shop())
    run(store, "google", base_url=BASE + "/")
    place = place_of(store, "google")
    rows = table(place / "feeds/merchant.tsv", "\t")
    space = "{http://base.google.com/ns/1.0}"
    items = ElementTree.parse(place / "feeds/merchant.xml").getroot().iter("item")
    assert [(item.findtext(f"{space}id"), item.findtext(f"{space}image_link")) for item in items] == [
        (row["id"], row["image_link"]) for row in rows
    ]
    assert [row["id"] for row in rows] == ["A-1", "C-3", "积木 1"]
    for row in rows:
        assert row["image_link"].isascii()
        assert (place / row["image_link"].removeprefix(f"{BASE}/")).exists()
    assert rows[0]["additional_image_link"].startswith(f"{BASE}/pictures/brick/A-1/1-")


def test_the_shopify_feed_has_positions_and_alt_texts(store: LocalStore) -> None:
    engine = {"handle": "fire-engine", "title": "Fire Engine"}
    red = Article(sku="R", colour="Red", pixels=toy(), **engine)  # type: ignore[arg-type]
    blue = Article(sku="S", colour="Blue", pixels=toy(BLUE), **engine)  # type: ignore[arg-type]
    put_shop(store, [red, blue, *shop()[2:]])
    run(store, "shopify", base_url=BASE)
    rows = table(place_of(store, "shopify") / "feeds/shopify.csv")
    assert [(row["Handle"], row["Title"], row["Image Position"], row["Image Alt Text"]) for row in rows] == [
        ("say-hi-1-1", HI, "1", HI),
        ("fire-engine", "Fire Engine", "1", "Fire Engine, Red"),
        ("fire-engine", "", "2", "Fire Engine, Blue"),
        ("积木-2x4", "积木 2x4", "1", "积木 2x4，蓝色"),
    ]


def handles(store: LocalStore, articles: list[Article]) -> dict[str, str]:
    """The handles of the Shopify feed by sku, which the alt texts name."""
    put_shop(store, [replace(article, colour=f"colour of {article.sku}") for article in articles])
    run(store, "shopify", base_url=BASE)
    rows = table(place_of(store, "shopify") / "feeds/shopify.csv")
    return {row["Image Alt Text"].rpartition("colour of ")[2]: row["Handle"] for row in rows}


def test_only_stated_handles_join_products_in_the_shopify_feed(store: LocalStore) -> None:
    articles = [
        Article(sku="A", title="Toy car", pixels=toy()),
        Article(sku="B", title="Toy car", pixels=toy(BLUE)),
        Article(sku="C", title="★★★", pixels=toy()),
        Article(sku="★", title="🚒", pixels=toy(BLUE)),
        Article(sku="E", title="Tree", pixels=toy(GREEN)),
        Article(sku="F", title="Trees", handle="Tree", pixels=toy(GREEN)),
        Article(sku="G", title="Trees", handle="Tree", pixels=toy(BLUE)),
        Article(sku="x 1", title="Boat", pixels=toy()),
        Article(sku="x-1", title="Boat", pixels=toy(BLUE)),
        Article(sku="H", title="Train", pixels=toy()),
        Article(sku="H", image_index=1, title="Old train", pixels=toy(BLUE)),
    ]
    assert handles(store, articles) == {
        "A": "toy-car-a",
        "B": "toy-car-b",
        "C": "c",
        "★": sha256("★".encode()).hexdigest()[:8],
        "E": "tree-e",
        "F": "Tree",
        "G": "Tree",
        "x 1": f"boat-x-1-{sha256(b'x 1').hexdigest()[:8]}",
        "x-1": f"boat-x-1-{sha256(b'x-1').hexdigest()[:8]}",
        "H": "train",
    }


def test_handles_stay_when_a_product_has_no_file_for_a_night(store: LocalStore) -> None:
    articles = [
        Article(sku=sku, title="Toy car", pixels=toy(colour)) for sku, colour in (("A", BLUE), ("B", GREEN))
    ]
    assert handles(store, articles)["A"] == "toy-car-a"
    cut_off = replace(articles[1], pixels=toy(GREEN, (0, 60, 440, 440)))
    assert handles(store, [articles[0], cut_off]) == {"A": "toy-car-a"}


def test_json_ld_can_stand_in_a_page(store: LocalStore) -> None:
    put_shop(store, shop())
    run(store, "web", base_url=BASE)
    text = (place_of(store, "web") / "feeds/products.jsonld").read_text("utf-8")
    assert not {"<", ">", "&"} & set(text)
    products = {product["sku"]: product for product in json.loads(text)["@graph"]}
    assert products["C-3"]["name"] == HI
    image = products["积木 1"]["image"][0]
    assert (image["caption"], image["inLanguage"]) == ("积木 2x4，蓝色", "zh")
    assert image["digitalSourceType"].endswith("TrainedAlgorithmicMediaDigitalSource")
    assert image["contentUrl"].endswith(".jpg")


def test_without_an_address_there_is_only_the_table(store: LocalStore) -> None:
    put_shop(store, shop())
    run(store, "google", base_url=BASE)
    summary = run(store, "google")
    assert "No merchant-tsv, merchant-xml feed: give --base-url" in summary.text()
    assert [path.name for path in (place_of(store, "google") / "feeds").iterdir()] == ["pictures.csv"]


@pytest.mark.parametrize(
    "channel", ["wechat", *(pytest.param(each, marks=pytest.mark.slow) for each in ("google", "instagram"))]
)
def test_a_collage_shows_products_of_a_category(channel: str, store: LocalStore, tmp_path: Path) -> None:
    pale = np.where(np.arange(512)[:, None, None] // 40 % 3 == 2, 255, toy()).astype(np.uint8)
    articles = [
        Article(sku="A", pixels=pale),
        *(Article(sku=f"B-{n}", pixels=toy(each)) for n, each in enumerate(("#C8141A", BLUE, GREEN))),
        Article(sku="T", category="tree", pixels=toy(GREEN)),
    ]
    put_shop(store, articles)
    request = ExportRequest(channel=channel, output=store.uri, to=str(tmp_path / "out"), collage=3)
    summary = export(request)
    assert "No collage of tree: it needs 3 products" in summary.text()
    assert violations(channel, tmp_path / "out") == []
    (row,) = table(tmp_path / "out" / "feeds" / "collages.csv")
    with Image.open(tmp_path / "out" / row["path"]) as image:
        seen = np.asarray(image.convert("RGB")).astype(int)
    for strongest in range(3):  # the pale product has no sure outline, so these three are shown
        others = [each for each in range(3) if each != strongest]
        assert (seen[..., strongest] - seen[..., others].max(axis=2) > 60).any()
    before = stamps(tmp_path / "out")
    export(request)
    assert stamps(tmp_path / "out") == before
    assert run(store, channel, to=str(tmp_path / "out")).removed == 2
