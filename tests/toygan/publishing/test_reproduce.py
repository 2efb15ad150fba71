"""A picture is made again from its row."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import CPU, tiny_model, tiny_with_layouts
from tests.toygan.generation.runs import put_part
from tests.toygan.generation.whole_runs import generate, request, rows_of, write_inputs
from toygan.errors import BadInput, ModelError, RunFailed
from toygan.planning.finished import read_part
from toygan.publishing.reproduce import reproduce
from toygan.publishing.verify import verify
from toygan.registry.models import add_model
from toygan.review.gallery import Gallery
from toygan.review.record import decide
from toygan.storage.memory import MemoryStore, named_memory_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    """A store with two models and a run of each; the first one's pictures are PNG, the second reads a colour
    from the titles."""
    uri = f"memory://{tmp_path.name}"
    store = named_memory_store(tmp_path.name)
    folder = write_inputs(tmp_path)
    few = tiny_model(acceptance=0.3)  # so that some products are left for review
    first = add_model(store, few.write(tmp_path / "few"), "toys")
    second = add_model(
        store, tiny_model(seed=1, acceptance=0.3, accent_colour="teal").write(tmp_path / "other"), "toys"
    )
    generate(request(folder, output=uri, main=f"toys@{first}", image_format="png"))
    generate(request(folder, output=uri, main=f"toys@{second}", mode="refresh", run_id="run-2"))
    yield store
    for prefix in ("", ".tmp/"):
        for info in store.list(prefix):
            store.delete(info.key)


def rows(store: MemoryStore) -> list[dict[str, Any]]:
    return [*rows_of(store, "run-1"), *rows_of(store, "run-2")]


def test_the_bytes_are_the_same(store: MemoryStore) -> None:
    kept = [row for row in rows(store) if row["image_uri"]]
    conditions = {row["run_id"]: json.loads(row["conditions"]).get("accent_hexes") for row in kept}
    assert conditions == {"run-1": None, "run-2": ["#008080"]}
    assert {row["decision"] for row in kept} == {"approved", "review"}
    assert {row["format"] for row in kept} == {"png", "webp"}
    for row in kept:
        said = reproduce(store, row["image_id"], CPU)
        assert said == f"{row['image_id']}: the same {row['bytes']} bytes as {row['image_uri']}"
    decide(store, "reject", [kept[0]["image_id"]], by="Ann", reason="too dark")
    assert reproduce(store, kept[0]["image_id"], CPU).endswith("; rejected by Ann: too dark")


def test_files_of_other_programs_among_the_runs_change_nothing(store: MemoryStore) -> None:
    for name in (".DS_Store", "._run-1.json", "copy of run 1.json", "run-1.json.part", "a/b.json"):
        store.put(f"runs/{name}", b"\0")
    kept = next(row for row in rows_of(store, "run-1") if row["image_uri"])
    assert reproduce(store, kept["image_id"], CPU).startswith(kept["image_id"])
    assert Gallery(store).find(kept["image_id"]) is not None
    assert decide(store, "reject", [kept["image_id"]], by="Ann", reason=None)
    assert verify(store).problems == ()


def test_other_bytes_are_an_error(store: MemoryStore) -> None:
    part = read_part(store, "run-1", 0).to_pylist(maps_as_pydicts="strict")
    row = next(row for row in part if row["image_uri"])
    row["seed"] += 1
    put_part(store, "run-1", part)
    with pytest.raises(RunFailed, match=f"the bytes differ from those of {row['image_uri']}"):
        reproduce(store, row["image_id"], CPU)


def test_only_a_stored_picture_can_be_made_again(store: MemoryStore) -> None:
    rejected = next(row["image_id"] for row in rows(store) if row["decision"] == "rejected")
    for image_id in (rejected, "0" * 20, "", "../x"):
        with pytest.raises(BadInput, match=r"no finished run in .* stored a picture of this id"):
            reproduce(store, image_id, CPU)


def test_a_run_that_has_not_finished_is_not_looked_into(store: MemoryStore) -> None:
    row = next(row for row in rows(store) if row["run_id"] == "run-2" and row["image_uri"])
    store.delete("runs/run-2.json")
    with pytest.raises(BadInput, match=row["image_id"]):
        reproduce(store, row["image_id"], CPU)


def test_a_model_that_is_gone_is_named(store: MemoryStore) -> None:
    row = next(row for row in rows(store) if row["image_uri"])
    for info in list(store.list(f"models/toys/{row['model_version']}/")):
        store.delete(info.key)
    with pytest.raises(ModelError, match=f"there is no model 'toys@{row['model_version']}'"):
        reproduce(store, row["image_id"], CPU)


@pytest.mark.parametrize("say_finish", [False, True])
@pytest.mark.slow
def test_the_layout_that_a_product_got_is_found_again(tmp_path: Path, say_finish: bool) -> None:
    """Where products come without one: nothing but seed, product and model says which.

    Models from before take a product's finish into account.
    """
    store = named_memory_store(tmp_path.name)
    folder = write_inputs(tmp_path, finish="chrome")
    title, finished = "Brick 2 x 4, teal lid", "Brick 2 x 4, teal lid, chrome"
    titles = (finished if say_finish else title, "Wolf")
    model = tiny_with_layouts(acceptance=0.9, titles=titles, say_finish=say_finish)
    version = add_model(store, model.write(tmp_path / "other"), "toys")
    generate(request(folder, output=store.uri, main=f"toys@{version}"))
    found = rows_of(store)
    conditions = [json.loads(row["conditions"]) for row in found]
    assert {each["text"] for each in conditions} == {finished}
    assert {each.get("shape_text") for each in conditions} == {None if say_finish else title}
    assert {each["layout_similarity"] for each in conditions} == {1.0}
    kept = [row["image_id"] for row in found if row["image_uri"]]
    assert len(kept) > 6
    assert all("the same" in reproduce(store, each, CPU) for each in kept)
