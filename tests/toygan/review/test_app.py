"""What the page's server answers and refuses."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from catalog_schemas.runs import Manifest
from tests.toygan.generation.runs import put_part
from tests.toygan.review.gallery_store import fill
from tests.toygan.review.shop import live
from toygan.errors import AccessRefused
from toygan.images import decode, encode_photo
from toygan.review import gallery
from toygan.review.app import THREADS, make_app
from toygan.review.record import decide
from toygan.storage.keys import condition_key, manifest_key, part_key
from toygan.storage.memory import MemoryStore

HERE = "http://127.0.0.1"


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    made.rows = fill(made, 5)  # type: ignore[attr-defined]
    return made


@pytest.fixture
def client(store: MemoryStore) -> TestClient:
    return TestClient(make_app(store, by="Ann", hosts=["127.0.0.1"], token=None), base_url=HERE)


def say(kind: str, image_id: str, number: int = 0, **changes: Any) -> dict[str, Any]:
    return {"decision_id": f"{number:032x}", "decision": kind, "image_id": image_id, "by": "Ann", **changes}


def post(client: TestClient, *said: dict[str, Any]) -> dict[str, Any]:
    csrf = client.get("/api/session").json()["csrf"]
    answer = client.post("/api/decisions", json={"decisions": said}, headers={"X-CSRF-Token": csrf})
    assert answer.status_code == 200, answer.text
    saved: dict[str, Any] = answer.json()
    return saved


def listed(client: TestClient, query: str = "") -> list[str]:
    return [item["sku"] for item in client.get(f"/api/pictures?{query}").json()["items"]]


def test_lists_are_paged_by_the_picture_before(client: TestClient) -> None:
    first = client.get("/api/pictures?count=2").json()
    assert ([item["title"] for item in first["items"]], first["total"], first["done"]) == (
        ["Toy 2", "Toy 3"],
        5,
        False,
    )
    post(client, say("reject", first["items"][0]["image_id"]))
    rest = client.get(f"/api/pictures?count=9&after={first['items'][1]['image_id']}").json()
    assert [item["title"] for item in rest["items"]] == ["Toy 4", "Toy 5", "Toy 6"]
    assert rest["done"]


def test_what_cannot_be_read_of_a_run_hides_no_other_pictures(
    client: TestClient, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    whole = store.get(manifest_key("run-1"))
    for run_id in ("lost", "damaged"):
        manifest = Manifest.from_json(whole)
        store.put(manifest_key(run_id), replace(manifest, run_id=run_id, commit=9).to_json().encode())
    store.put(part_key("damaged", 0), b"PAR1")
    store.put(manifest_key("no-manifest"), b"{")
    assert listed(client) == [f"sku-{number:04d}" for number in range(2, 7)]
    first, second = (row["image_id"] for row in store.rows[:2])  # type: ignore[attr-defined]
    assert post(client, say("reject", first))["refused"] == {}
    store.delete(manifest_key("no-manifest"))
    assert decide(store, "reject", [second], by="Ann", reason=None)
    left_out = {"part of the run lost", "part of the run damaged", "the run no-manifest"}
    assert {each for each in left_out if each in caplog.text} == left_out


def test_a_part_that_is_repaired_is_shown_without_a_restart(
    client: TestClient, store: MemoryStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "FRESH_S", 0.0)
    part, manifest = store.get(part_key("run-1", 0)), store.get(manifest_key("run-1"))
    store.put(part_key("run-1", 0), part[:-9])
    assert listed(client) == listed(client) == []
    assert caplog.text.count("part of the run run-1") == 1
    store.put(manifest_key("run-1"), b"{")
    store.put(part_key("run-1", 0), part)
    assert listed(client) == []
    store.put(manifest_key("run-1"), manifest)
    assert len(listed(client)) == 5


def test_an_undo_of_what_is_no_decision_is_refused(client: TestClient, store: MemoryStore) -> None:
    """Stored, it could not be read again."""
    picture = store.rows[0]["image_id"]  # type: ignore[attr-defined]
    refused = post(client, say("undo", picture, undoes="the last one"))["refused"]
    assert list(refused.values()) == ["'the last one' is not the id of a decision: 32 lower-case hex digits"]
    assert list(store.list("decisions/")) == []


def test_filters_choose_pictures(client: TestClient) -> None:
    assert listed(client, "show=live") == ["sku-0000", "sku-0001"]
    assert listed(client, "text=TOY%203") == ["sku-0003"]
    assert listed(client, "category=brick&reason=score_below_threshold&count=1") == ["sku-0002"]
    assert listed(client, "category=unknown") == listed(client, "show=decided") == []


def test_a_decision_moves_a_picture_to_another_list(client: TestClient, store: MemoryStore) -> None:
    rows = store.rows  # type: ignore[attr-defined]
    done = post(client, say("approve", rows[0]["image_id"], 1), say("redraw", rows[1]["image_id"], 2))
    assert done == {"saved": [f"{1:032x}", f"{2:032x}"], "refused": {}}
    assert listed(client) == ["sku-0004", "sku-0005", "sku-0006"]
    assert "sku-0002" in listed(client, "show=live")
    assert listed(client, "show=decided") == ["sku-0002", "sku-0003"]
    assert live(store)["sku-0002", 0][1] == "Ann"
    post(client, say("undo", rows[0]["image_id"], 3, undoes=f"{1:032x}"))
    assert "sku-0002" in listed(client)


def test_a_bad_decision_does_not_hold_up_the_others(client: TestClient, store: MemoryStore) -> None:
    rows = store.rows  # type: ignore[attr-defined]
    store.delete(rows[1]["image_uri"])
    done = post(
        client,
        say("approve", rows[0]["image_id"], 1),
        say("approve", rows[1]["image_id"], 2),
        say("approve", "f" * 20, 3),
        say("approve", rows[2]["image_id"], 4, by="machine"),
    )
    assert done["saved"] == [f"{1:032x}"]
    assert sorted(done["refused"]) == [f"{number:032x}" for number in (2, 3, 4)]
    assert "is missing" in done["refused"][f"{2:032x}"]


@pytest.mark.parametrize("folder", ["decisions/", "state/"])
def test_decisions_that_the_store_does_not_take_are_not_refused(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """The browser forgets refused decisions. It keeps them, and sends them again, after the status 503."""
    rows, put_if = store.rows, store.put_if  # type: ignore[attr-defined]
    store.delete(rows[2]["image_uri"])
    decide(store, "reject", [rows[4]["image_id"]], by="Ann", reason=None)
    said = [say("approve", row["image_id"], number) for number, row in enumerate(rows[:3])]

    def read_only(key: str, data: bytes, version: str | None, **more: Any) -> str:
        if key.startswith(folder):
            raise AccessRefused(f"s3://shop/toys: no permission to write {key}")
        return put_if(key, data, version, **more)

    csrf = client.get("/api/session").json()["csrf"]
    monkeypatch.setattr(store, "put_if", read_only)
    for batch in (said, said[:2]):
        body = {"decisions": batch}
        answer = client.post("/api/decisions", json=body, headers={"X-CSRF-Token": csrf})
        assert (answer.status_code, "no permission to write" in answer.text) == (503, True)
    monkeypatch.undo()
    assert post(client, *said)["saved"] == [each["decision_id"] for each in said[:2]]


def test_a_picture_that_may_not_be_read_does_not_hold_up_the_others(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, size = store.rows, store.size  # type: ignore[attr-defined]

    def refusing(key: str) -> int:
        if key == rows[0]["image_uri"]:
            raise AccessRefused(f"{key}: permission denied")
        return size(key)

    monkeypatch.setattr(store, "size", refusing)
    done = post(client, *(say("approve", row["image_id"], number) for number, row in enumerate(rows[:2])))
    assert done["saved"] == [f"{1:032x}"]
    assert "permission denied" in done["refused"][f"{0:032x}"]


def test_changes_need_the_token_of_the_page(client: TestClient, store: MemoryStore) -> None:
    body = {"decisions": [say("approve", store.rows[0]["image_id"])]}  # type: ignore[attr-defined]
    for headers in ({}, {"X-CSRF-Token": "guess"}):
        assert client.post("/api/decisions", json=body, headers=headers).status_code == 403
    assert len(live(store)) == 2


def test_other_host_names_are_refused(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/..%2Fcurrent.parquet",
        "/pictures/" + "0" * 20,
        "/static/..%2Fapp.py",
        "/static/review.html",
        f"/conditions/{'0' * 20}/{'0' * 64}",
    ],
)
def test_paths_lead_to_known_pictures_only(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_beyond_this_machine_a_token_is_needed(store: MemoryStore) -> None:
    app = make_app(store, hosts=["*"], token="secret-word")
    client = TestClient(app, base_url="http://shop.example", follow_redirects=False)
    for path in ("/", "/api/pictures", "/api/session", "/?token=wrong"):
        assert client.get(path).status_code == 401
    entered = client.get("/?token=secret-word")
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert "httponly" in entered.headers["set-cookie"].lower()
    assert client.get("/").status_code == 200


def test_the_page_asks_nothing_of_other_hosts(client: TestClient) -> None:
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in ("/", "/static/review.js", "/static/queue.js", "/static/review.css"):
        assert "://" not in client.get(path).text.replace("memory://", "")


def test_details_have_the_found_colour_and_the_words(client: TestClient, store: MemoryStore) -> None:
    found = client.get(f"/api/pictures/{store.rows[0]['image_id']}").json()  # type: ignore[attr-defined]
    assert found["reasons"] == ["score too low"]
    assert found["wanted_colour"] == "#B40000"
    assert found["found_colour"].startswith("#")
    picture = client.get(f"/pictures/{found['image_id']}")
    assert picture.headers["content-type"] == "image/webp"


def test_few_requests_are_answered_at_once(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = store.rows[0]["image_id"]  # type: ignore[attr-defined]
    running, peak, counting, get = 0, 0, threading.Lock(), store.get

    def slow(key: str) -> bytes:
        nonlocal running, peak
        with counting:
            running += 1
            peak = max(peak, running)
        time.sleep(0.02)
        with counting:
            running -= 1
        return get(key)

    with client, ThreadPoolExecutor(3 * THREADS) as pool:
        assert client.get(f"/pictures/{image_id}").status_code == 200
        monkeypatch.setattr(store, "get", slow)
        answers = list(pool.map(client.get, [f"/pictures/{image_id}"] * (6 * THREADS)))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= peak <= THREADS


def test_a_damaged_row_hides_no_other_pictures(client: TestClient, store: MemoryStore) -> None:
    rows = [dict(row) for row in store.rows]  # type: ignore[attr-defined]
    for row, conditions in zip(rows, ("{", "[]", "7", '{"colour_hex": 7}', "[" * 100_000), strict=True):
        row["conditions"], row["reasons"] = conditions, [None]
    put_part(store, "run-1", rows)
    items = client.get("/api/pictures").json()["items"]
    assert [item["wanted_colour"] for item in items] == [None] * 5
    assert client.get(f"/api/pictures/{items[0]['image_id']}").status_code == 200


def test_a_large_snapshot_is_shown_reduced(client: TestClient, store: MemoryStore) -> None:
    row = dict(store.rows[0])  # type: ignore[attr-defined]
    snapshot = encode_photo(np.full((1500, 2000, 3), 200, np.uint8), "jpg")
    digest = sha256(snapshot).hexdigest()
    store.put(condition_key(digest), snapshot)
    put_part(store, "run-1", [row | {"condition_sha256": [("photo", digest)]}])
    shown = client.get(f"/conditions/{row['image_id']}/{digest}?kind=photo")
    assert decode(shown.content).shape == (768, 1024, 3)
