"""Exports, checked by programs that share no code with them."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from catalog_schemas.images import CURRENT, read_current, write_current
from tests.toygan.channels.checker import WANTED, has_exiftool, violations
from tests.toygan.channels.exports import BASE, GREEN, content, files, place_of, run, shop, stamps, table
from tests.toygan.channels.shop import Article, layout_of, put_shop, toy
from tests.toygan.generation.mortal_store import Died, MortalStore
from toygan.channels import export as exporting
from toygan.channels.export import ExportRequest
from toygan.channels.rules import channel_names
from toygan.errors import BadInput, Retryable
from toygan.review.record import decide
from toygan.storage.keys import CURRENT_KEY, image_key, part_key
from toygan.storage.local import LocalStore

pytestmark = pytest.mark.usefixtures("producer")


@pytest.mark.parametrize("channel", sorted(WANTED))
def test_every_channel_gets_what_it_asks_for(channel: str, store: LocalStore, tmp_path: Path) -> None:
    put_shop(store, shop())
    summary = run(store, channel, to=str(tmp_path / "out"))
    assert (summary.exported, summary.broken) == (4, 0)
    assert violations(channel, tmp_path / "out") == []
    if not has_exiftool():
        pytest.skip("the marks are not checked: exiftool is missing (Debian: libimage-exiftool-perl)")


def test_the_checker_knows_all_channels() -> None:
    assert sorted(WANTED) == sorted(channel_names())


def test_a_second_export_writes_nothing(store: LocalStore) -> None:
    put_shop(store, shop())
    first = run(store, "web", base_url=BASE)
    before = stamps(place_of(store, "web"))
    again = run(store, "web", base_url=BASE)
    assert (first.made, again.made, again.removed) == (4, 0, 0)
    assert stamps(place_of(store, "web")) == before


def test_only_what_changed_is_made_and_what_left_is_removed(store: LocalStore) -> None:
    put_shop(store, shop())
    run(store, "google", base_url=BASE)
    place = place_of(store, "google")
    before = stamps(place)
    put_shop(store, [shop()[1], Article(sku="D-4", pixels=toy(GREEN))])
    summary = run(store, "google", base_url=BASE)
    assert (summary.live, summary.made, summary.removed) == (2, 1, 3)
    after = {path: when for path, when in stamps(place).items() if path.suffix == ".jpg"}
    kept = after.keys() & before.keys()
    assert (len(after), len(kept)) == (2, 1)
    assert all(after[path] == before[path] for path in kept)
    assert [row["id"] for row in table(place / "feeds/merchant.tsv", "\t")] == ["A-1", "D-4"]


@pytest.mark.parametrize("is_last_made", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_killed_export_that_runs_again_ends_the_same(
    is_last_made: bool, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shop(store, shop())
    run(store, "google", to=str(tmp_path / "whole"), base_url=BASE)
    whole = content(tmp_path / "whole")
    monkeypatch.setattr(exporting, "_KEPT_EVERY", 2)
    opened = exporting.open_store
    ends = []
    for changes in range(1, 20):
        place = tmp_path / f"killed-{changes}"

        def mortal(uri: str, place: Path = place, changes: int = changes) -> object:
            found = opened(uri)
            return MortalStore(found, changes, is_last_made=is_last_made) if uri == str(place) else found

        monkeypatch.setattr(exporting, "open_store", mortal)
        try:
            run(store, "google", to=str(place), base_url=BASE)
        except Died:
            monkeypatch.setattr(exporting, "open_store", opened)
            run(store, "google", to=str(place), base_url=BASE)
            ends.append(content(place))
        else:
            break
    assert len(ends) > 7
    assert all(end == whole for end in ends)


def test_a_file_that_somebody_removed_is_made_again(store: LocalStore) -> None:
    put_shop(store, shop())
    run(store, "google")
    place = place_of(store, "google")
    whole = content(place)
    next(iter((place / "pictures").rglob("*.jpg"))).unlink()
    assert run(store, "google").made == 1
    assert content(place) == whole


def test_strange_files_at_the_place_stay(store: LocalStore, tmp_path: Path) -> None:
    put_shop(store, shop())
    mine = [
        tmp_path / "out" / name for name in ("pictures/mine.jpg", "feeds/mine.csv", "feeds/a/merchant.tsv")
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    run(store, "google", to=str(tmp_path / "out"))
    put_shop(store, shop()[:1])
    assert run(store, "google", to=str(tmp_path / "out")).removed == 3
    assert {path.read_bytes() for path in mine} == {b"mine"}


def test_broken_pictures_are_reported_and_stop_nothing(store: LocalStore) -> None:
    ids = put_shop(store, shop())
    store.delete(image_key("brick", "A-1", ids[0], "webp"))
    store.put(image_key("brick", "C-3", ids[3], "webp"), b"RIFF....WEBPgarbage")
    summary = run(store, "google", base_url=BASE)
    assert (summary.exported, summary.broken) == (2, 2)
    assert summary.left_out == {"picture_damaged": 1, "picture_missing": 1}
    assert "the store has lost the picture" in (place_of(store, "google") / "report.html").read_text("utf-8")
    put_shop(store, shop())
    assert run(store, "google", base_url=BASE).broken == 0


def test_damaged_metadata_of_a_run_stops_no_other_run(store: LocalStore) -> None:
    put_shop(store, shop()[:2], "run-2")
    lost = read_current(store.get(CURRENT_KEY)).to_pylist()
    put_shop(store, shop()[2:])
    rows = read_current(store.get(CURRENT_KEY)).to_pylist()
    store.put(CURRENT_KEY, write_current(pa.Table.from_pylist([*lost, *rows], CURRENT)))
    store.put(part_key("run-2", 0), b"PAR1")
    summary = run(store, "google")
    assert (summary.exported, summary.broken, summary.left_out) == (2, 2, {"metadata_missing": 2})


def test_a_small_picture_is_left_out_and_not_enlarged(store: LocalStore) -> None:
    put_shop(store, [Article(sku="S", pixels=toy(box=(12, 16, 112, 112), side=128))])
    summary = run(store, "google")
    assert (summary.exported, summary.left_out) == (0, {"square: too_small": 1})
    page = (place_of(store, "google") / "report.html").read_text("utf-8")
    assert "133 pixels at most, at least 500 are needed" in page


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (toy(box=(0, 60, 440, 440)), "product_cut_off"),
        (np.full((512, 512, 3), 255, np.uint8), "product_not_found"),
    ],
)
def test_a_picture_without_a_whole_product_is_left_out(
    pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", reason: str, store: LocalStore
) -> None:
    put_shop(store, [Article(sku="E", pixels=pixels)])
    assert run(store, "shopify").left_out == {reason: 1}


def test_amazon_gets_eight_pictures_none_of_them_the_main_one(store: LocalStore) -> None:
    put_shop(store, [Article(sku="M", image_index=index, pixels=toy()) for index in range(10)])
    summary = run(store, "amazon")
    assert (summary.exported, summary.left_out) == (8, {"too_many": 2})
    assert "Only as additional pictures" in summary.text()
    rows = table(place_of(store, "amazon") / "feeds/pictures.csv")
    assert [row["slot"] for row in rows] == [f"PT{number:02d}" for number in range(1, 9)]
    assert {row["role"] for row in rows} == {"secondary"}


def test_a_white_product_without_a_layout_gets_no_cutout(store: LocalStore) -> None:
    pixels = toy()
    pixels = np.where(np.arange(512)[:, None, None] // 40 % 3 == 2, 255, pixels).astype(np.uint8)
    put_shop(
        store,
        [Article(sku="N", pixels=pixels), Article(sku="Y", pixels=pixels, layout=layout_of())],
    )
    summary = run(store, "web")
    assert summary.left_out == {"cutout: outline_unsure": 1}
    frames = {(row["sku"], row["frame"]) for row in table(place_of(store, "web") / "feeds/pictures.csv")}
    assert frames == {("N", "white"), ("Y", "white"), ("Y", "cutout")}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"channel": "gogle"}, "there is no channel 'gogle'"),
        ({"base_url": "http://shop.example.com"}, "is not an https:// address"),
        ({"base_url": "https://shop.example.com/?a=1"}, "is not an https:// address"),
        ({"base_url": "https://shop.example.com/my pictures"}, "escape spaces, quotes"),
        ({"base_url": 'https://shop.example.com/a"b<c>'}, "is not an https:// address"),
        ({"base_url": "https://shop.example.com/\x7f"}, "is not an https:// address"),
        ({"base_url": "https://shop.example.com/玩具"}, "is not an https:// address"),
        ({"base_url": "https://shop.example.com:99999999/x"}, "is not an https:// address"),
        ({"base_url": "https://shop.example.com:port/x"}, "is not an https:// address"),
        ({"base_url": "https://[::1/x"}, "is not an https:// address"),
        ({"base_url": "https:///x"}, "is not an https:// address"),
        ({"base_url": "https://me:secret@shop.example.com"}, "a user or password in a URI"),
        ({"base_url": "https://shop.example.com/" + "a" * 1990}, "has over 2000 characters"),
        ({"base_url": BASE, "presigned_days": 1.0}, "not both"),
        ({"presigned_days": 8.0}, "at most 7"),
        ({"presigned_days": 1.0}, "has no presigned URLs"),
        ({"to": "STORE"}, "is the store itself"),
    ],
)
def test_a_bad_request_is_refused(more: dict[str, str], message: str, store: LocalStore) -> None:
    put_shop(store, shop()[:1])
    more = {name: store.uri if value == "STORE" else value for name, value in more.items()}
    with pytest.raises(BadInput, match=message):
        run(store, more.pop("channel", "google"), **more)


def test_a_store_without_live_pictures_is_refused(store: LocalStore) -> None:
    with pytest.raises(BadInput, match="has no live pictures yet"):
        run(store, "google")


def test_two_channels_do_not_share_a_place(store: LocalStore, tmp_path: Path) -> None:
    put_shop(store, shop()[:1])
    run(store, "google", to=str(tmp_path / "out"))
    with pytest.raises(BadInput, match="holds the export of the channel google"):
        run(store, "ebay", to=str(tmp_path / "out"))


def test_of_two_exports_at_once_the_slower_one_is_refused(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shop(store, shop()[:1])
    make = exporting.make_picture

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(exporting, "make_picture", make)
        run(store, "google")
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "make_picture", overtaken)
    with pytest.raises(Retryable, match="another export of google is running"):
        run(store, "google")
    assert run(store, "google").made == 0


def test_china_needs_the_name_of_the_producer(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put_shop(store, shop()[:1])
    monkeypatch.delenv("TOYGAN_AIGC_PRODUCER")
    with pytest.raises(BadInput, match="set TOYGAN_AIGC_PRODUCER"):
        run(store, "xiaohongshu")
    assert run(store, "instagram").exported == 1


def test_a_channel_of_the_users_own_needs_a_file_only(store: LocalStore, tmp_path: Path) -> None:
    put_shop(store, shop()[:1])
    text = (Path(exporting.__file__).parent / "ebay.toml").read_text().replace('"ebay"', '"market"')
    (tmp_path / "market.toml").write_text(text)
    summary = run(store, str(tmp_path / "market.toml"))
    assert (summary.channel, summary.exported) == ("market", 1)


def test_a_lower_limit_holds_for_files_of_earlier_exports(store: LocalStore, tmp_path: Path) -> None:
    put_shop(store, [Article(sku=f"S-{number}", pixels=toy()) for number in range(3)])
    rules = (Path(exporting.__file__).parent / "ebay.toml").read_text()
    place = tmp_path / "out"

    def export(most_bytes: int) -> tuple[int, dict[str, int], int]:
        path = tmp_path / "ebay.toml"
        path.write_text(re.sub("most_bytes = [0-9_]+", f"most_bytes = {most_bytes}", rules))
        request = ExportRequest(channel=str(path), output=store.uri, to=str(place), collage=3)
        summary = exporting.export(request)
        return summary.exported, dict(summary.left_out), len(list(place.rglob("collage/*.jpg")))

    assert export(10_000_000) == (3, {}, 1)
    largest = max(int(row["bytes"]) for row in table(place / "feeds/pictures.csv"))
    assert export(largest) == (3, {}, 0)  # the collage is larger
    assert export(largest - 1) == (0, {"square: file_too_large": 3}, 0)
    assert export(10_000_000) == (3, {}, 1)


def test_a_picture_that_people_reject_is_gone_with_the_next_export(store: LocalStore) -> None:
    ids = put_shop(store, shop())
    run(store, "google")
    before = len(files(place_of(store, "google") / "pictures"))
    decide(store, "reject", ids[:1], by="Ann", reason=None)
    assert run(store, "google").exported == 3
    assert len(files(place_of(store, "google") / "pictures")) < before
    decide(store, "approve", ids[:1], by="Bo", reason=None)
    assert run(store, "google").exported == 4
    assert len(files(place_of(store, "google") / "pictures")) == before
