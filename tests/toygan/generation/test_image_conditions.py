"""Products that are drawn from what the catalog knows of them: a layout, a sketch, or neither."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.images import read_current
from catalog_schemas.validation import REJECTED_ROWS, read_parquet_bytes
from tests.catalog_schemas.tables import product, write_catalog
from tests.models import CPU, LAYOUT_CLASSES, TinyFiles, condition_file, tiny_model
from tests.toygan.generation import whole_runs
from tests.toygan.generation.mortal_store import Died, MortalStore
from tests.toygan.generation.whole_runs import generate, lead_to, rows_of
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.errors import BadInput, ModelError
from toygan.generation import worker_spec
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.publishing.reproduce import reproduce
from toygan.publishing.verify import prune, verify
from toygan.registry import promotion
from toygan.registry.aliases import read_aliases
from toygan.registry.models import add_model
from toygan.storage.keys import CONDITIONS_PREFIX, CURRENT_KEY, planning_key, rejected_rows_key
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

CONDITION_TYPES: tuple[ImageCondition, ...] = ("sketch", "layout")


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyFiles]:
    """Draws from category, colour and text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield tiny_model(acceptance=1.0, text_encoder=DEFAULT_TEXT_ENCODER)


SPECIAL: dict[ImageCondition, TinyFiles] = {
    "sketch": tiny_model("pix2pix", acceptance=1.0),
    "layout": tiny_model("spade", acceptance=1.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, general: TinyFiles) -> Path:
    """Three models, and a catalog of rows that know more or less of their products."""
    folder = tmp_path_factory.mktemp("shop")
    general.write(folder / "tiny")
    for kind, model in SPECIAL.items():
        model.write(folder / model.name)
        (folder / kind).mkdir()
        for number in range(4):
            (folder / kind / f"{number}.png").write_bytes(condition_file(kind, number))
    (folder / "layout" / "alien.png").write_bytes(condition_file("layout", 0, label=LAYOUT_CLASSES))
    (folder / "broken.png").write_bytes(condition_file("layout", 1)[:60])
    rows = [
        product(sku="plain-0"),
        product(sku="plain-1", category="car", title="红色小汽车", description=None, language="zh"),
        *(product(sku=f"layout-{number}", layout_uri=f"layout/{number}.png") for number in range(3)),
        product(sku="sketch-0", sketch_uri="sketch/0.png", category="car"),
        product(sku="sketch-1", sketch_uri="./sketch/1.png"),
        product(sku="both", layout_uri="layout/3.png", sketch_uri="sketch/3.png"),
        product(sku="broken", layout_uri="broken.png", sketch_uri="sketch/3.png"),
        product(sku="alien", layout_uri="layout/alien.png"),
        product(sku="lost", sketch_uri="sketch/none.png"),
        product(sku="photo", sketch_uri="catalog.parquet"),
    ]
    write_catalog(folder / "catalog.parquet", rows)
    return folder


DRAWN = {
    **dict.fromkeys(("plain-0", "plain-1")),
    **dict.fromkeys(("sketch-0", "sketch-1"), "sketch"),
    **dict.fromkeys(("layout-0", "layout-1", "layout-2", "both"), "layout"),
}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore("run")
    lead_to(store, monkeypatch)
    return store


def request(folder: Path, **changes: Any) -> RunRequest:
    special = {"sketch": str(folder / "tiny-pix2pix"), "layout": str(folder / "tiny-spade")}
    return whole_runs.request(folder, **special | changes)


def contents(store: ObjectStore, *prefixes: str) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for prefix in prefixes for info in store.list(prefix)}


def test_each_product_goes_to_the_model_for_its_condition_file(
    folder: Path, store: MemoryStore, general: TinyFiles
) -> None:
    manifest = generate(request(folder)).manifest
    rows = rows_of(store)
    assert {row["sku"] for row in rows} == DRAWN.keys()
    models = {None: general, **SPECIAL}
    families = {None: "dcgan", "sketch": "pix2pix", "layout": "spade"}
    for row in rows:
        kind = DRAWN[row["sku"]]
        drawn_by = (row["model_name"], row["model_version"], row["model_family"])
        assert drawn_by == (models[kind].name, models[kind].version, families[kind])
        assert list(row["condition_sha256"]) == ([kind] if kind else [])
        assert ('"text":' in row["conditions"]) == (kind is None)
        assert "layout_similarity" not in row["conditions"]
        assert "shape_guessed" not in row["reasons"]
    texts = {row["sku"]: json.loads(row["conditions"]).get("text") for row in rows}
    assert texts["plain-0"] == "Brick 2 x 4"  # red is another condition, and it was trained on titles alone
    assert texts["plain-1"] is None  # in Chinese
    assert manifest.models.keys() == {f"{model.name}@{model.version}" for model in models.values()}
    for name in ("approved", "review", "rejected"):
        assert sum(counts[name] for counts in manifest.models.values()) == manifest.counts[name]
    assert manifest.counts["planned"] == manifest.counts["approved"] + manifest.counts["review"] == len(DRAWN)
    verdict = verify(store)
    assert verdict.problems == ()
    assert verdict.conditions == 6


def test_a_file_that_cannot_be_generated_from_sets_its_row_aside(folder: Path, store: MemoryStore) -> None:
    start_run(resolve_run(request(folder)))
    key = rejected_rows_key("run-1")
    found = read_parquet_bytes(store.get(key), REJECTED_ROWS, key).to_pylist()
    assert [(row["row"], row["sku"], row["column"]) for row in found] == [
        (8, "broken", "layout_uri"),
        (9, "alien", "layout_uri"),
        (10, "lost", "sketch_uri"),
        (11, "photo", "sketch_uri"),
    ]
    reasons = [row["reason"] for row in found]
    assert reasons[0].startswith("condition_file_unusable: broken.png: ")
    assert reasons[1] == (
        f"condition_file_unusable: layout/alien.png: it holds the label {LAYOUT_CLASSES}, "
        f"but the model has the labels 0 to {LAYOUT_CLASSES - 1}"
    )
    assert reasons[2] == "condition_file_not_found: sketch/none.png"
    assert reasons[3].startswith("condition_file_unusable: catalog.parquet: this is not a JPEG, PNG, WebP, ")


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do_until_a_file_changes(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    generate(request(folder))
    live = read_current(store.get(CURRENT_KEY))
    again = generate(request(folder, run_id="run-2")).manifest
    assert again.counts["unchanged"] == live.num_rows
    assert again.counts["planned"] == len(DRAWN) - live.num_rows
    assert read_current(store.get(CURRENT_KEY)).num_rows >= live.num_rows
    assert verify(store).problems == ()


@pytest.mark.slow
def test_every_picture_is_made_again_from_its_row(folder: Path, store: MemoryStore) -> None:
    versions = {}
    for option, name in (("main", "tiny"), ("sketch", "tiny-pix2pix"), ("layout", "tiny-spade")):
        versions[option] = f"{name}@{add_model(store, folder / name, name)}"
    generate(request(folder, **versions))
    kept = [row for row in rows_of(store) if row["image_uri"]]
    assert {row["model_family"] for row in kept} == {"dcgan", "pix2pix", "spade"}
    for row in kept:
        assert "the same" in reproduce(store, row["image_id"], CPU)
    row = next(row for row in kept if row["model_family"] == "spade")
    store.delete(f"conditions/{row['condition_sha256']['layout']}")
    with pytest.raises(BadInput, match=r"conditions/[0-9a-f]{64} is missing"):
        reproduce(store, row["image_id"], CPU)


@pytest.mark.slow
def test_a_run_that_dies_and_is_run_again_ends_as_an_undisturbed_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = MemoryStore("run")
    counting = MortalStore(undisturbed, 10**6, is_last_made=True)
    lead_to(counting, monkeypatch)
    generate(request(folder))
    wanted = contents(undisturbed, "images/", "review/", CURRENT_KEY, CONDITIONS_PREFIX)
    for number in range(1, 10**6 - counting.left + 1, 3):
        store = MemoryStore("run")
        lead_to(MortalStore(store, number, is_last_made=number % 2 == 0), monkeypatch)
        with pytest.raises(Died):
            generate(request(folder))
        if number > 1:  # something is there
            assert verify(store).problems == ()
        lead_to(store, monkeypatch)
        generate(request(folder))
        assert contents(store, "images/", "review/", CURRENT_KEY, CONDITIONS_PREFIX) == wanted
        assert verify(store).problems == ()
        assert contents(store, ".tmp/") == {}


# which models


@pytest.mark.slow
def test_a_model_is_loaded_for_a_product_only(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = []
    load_model = worker_spec.load_model

    def counting(source: Any, device: Any) -> Any:
        loaded.append(source.name)
        return load_model(source, device)

    worker_spec._engine.cache_clear()
    monkeypatch.setattr(worker_spec, "load_model", counting)
    write_catalog(tmp_path / "plain.parquet", [product()])
    generate(request(folder, catalog=str(tmp_path / "plain.parquet")))
    assert loaded == ["tiny"]
    for run_id in ("run-2", "run-3"):
        generate(request(folder, run_id=run_id, mode="all"))
    assert sorted(loaded) == ["tiny", "tiny-pix2pix", "tiny-spade"]


@pytest.mark.slow
def test_a_process_keeps_a_few_models_only_and_one_worker_pool(folder: Path, store: MemoryStore) -> None:
    worker_pools = set()
    for number in range(2):
        run = start_run(resolve_run(request(folder, run_id=f"run-{number}", batch_size=number + 1)))
        worker_pools |= {
            id(worker_spec.engine_for(run.worker_spec, kind).worker_pool) for kind in (None, *CONDITION_TYPES)
        }
    assert worker_spec._engine.cache_info().currsize == 4
    assert len(worker_pools) == 1


@pytest.mark.slow
def test_condition_files_without_a_model_count_in_fingerprints_only(folder: Path, store: MemoryStore) -> None:
    manifest = generate(request(folder, sketch=None, layout=None)).manifest
    rows = rows_of(store)
    assert {row["model_family"] for row in rows} == {"dcgan"}
    assert {row["sku"] for row in rows} == {*DRAWN, "broken", "alien", "photo"}
    assert contents(store, CONDITIONS_PREFIX) == {}
    assert list(manifest.models) == [f"{manifest.model_name}@{manifest.model_version}"]
    later = generate(request(folder, run_id="run-2", mode="refresh")).manifest
    assert later.counts["planned"] >= sum(kind is not None for kind in DRAWN.values())
    assert {row["model_family"] for row in rows_of(store, "run-2")} >= {"spade", "pix2pix"}
    assert verify(store).problems == ()


@pytest.mark.slow
def test_champions_are_used_and_kept_by_a_run_that_goes_on(folder: Path, store: MemoryStore) -> None:
    wanted = request(folder, main=None, sketch=None, layout=None)
    for name in ("tiny", "tiny-spade"):
        promotion.promote(store, name, add_model(store, folder / name, name))
    assert {name: alias.now.name for name, alias in read_aliases(store).items()} == {
        "champion": "tiny",
        "champion-layout": "tiny-spade",
    }
    before = start_run(resolve_run(wanted)).plan
    version = add_model(store, folder / "tiny-pix2pix", "tiny-pix2pix")
    assert promotion.promote(store, "tiny-pix2pix", version)[0] == "champion-sketch"
    assert start_run(resolve_run(wanted)).plan == before
    families = {row["model_family"] for row in (generate(wanted), rows_of(store))[1]}
    assert families == {"dcgan", "spade"}
    assert generate(wanted).manifest.settings["models"].get("sketch") is None  # it is finished by now
    generate(replace(wanted, run_id="run-2", mode="all"))
    assert {row["model_family"] for row in rows_of(store, "run-2")} == {"dcgan", "spade", "pix2pix"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"main": "tiny-spade"},
            "cannot be the --model, because it takes a layout; give the model by --layout-model",
        ),
        ({"main": "tiny-pix2pix"}, "takes a sketch; give the model by --sketch-model"),
        ({"sketch": "tiny-spade"}, "cannot be the --sketch-model, because it takes a layout"),
        ({"layout": "tiny"}, "tiny@.* cannot be the --layout-model, because it takes no image"),
    ],
)
def test_a_model_for_another_condition_is_refused(
    folder: Path, store: MemoryStore, change: dict[str, str], said: str
) -> None:
    changed = {option: str(folder / name) for option, name in change.items()}
    with pytest.raises(ModelError, match=said):
        start_run(resolve_run(request(folder, **changed)))
    assert contents(store, "", ".tmp/") == {}


# the files in the store


@pytest.mark.slow
def test_verify_proves_that_what_was_generated_from_is_there(folder: Path, store: MemoryStore) -> None:
    generate(request(folder))
    lost, damaged, *_ = contents(store, CONDITIONS_PREFIX)
    store.delete(lost)
    store.put(damaged, b"other")
    stray = CONDITIONS_PREFIX + "0" * 64
    store.put(stray, b"stray")
    said = verify(store).problems
    assert any(problem.startswith(f"{lost}: missing, although metadata/") for problem in said)
    assert any(problem.startswith(f"{damaged}: has the sha256 ") for problem in said)
    assert [problem for problem in said if problem.startswith(stray)] == [
        f"{stray}: left over, because no finished run names it; --prune removes it"
    ]
    assert len(said) == 3
    assert prune(store) == [stray]


def test_files_of_runs_that_are_planned_or_under_way_are_not_left_over(
    folder: Path, store: MemoryStore
) -> None:
    store.put(planning_key("run-0"), b"")  # before its plan is frozen
    store.put(CONDITIONS_PREFIX + "0" * 64, b"of run-0")
    assert verify(store).problems == ()
    assert prune(store) == []
    store.delete(planning_key("run-0"))
    start_run(resolve_run(request(folder)))
    assert prune(store) == [CONDITIONS_PREFIX + "0" * 64]
    assert len(contents(store, CONDITIONS_PREFIX)) == 6
    assert verify(store).problems == ()


@pytest.mark.slow
def test_a_kept_file_that_is_gone_fails_its_shard_with_a_remedy(folder: Path, store: MemoryStore) -> None:
    run = start_run(resolve_run(request(folder)))
    for key in contents(store, CONDITIONS_PREFIX):
        store.delete(key)
    with pytest.raises(BadInput, match=r"is missing in memory://run; put it back, or start a new run"):
        run_shard(run.worker_spec, "run-1", 0, "webp")
