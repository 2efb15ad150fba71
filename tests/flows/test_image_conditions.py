"""Layouts and sketches from the command line: champions by kind, kills, and products that are customised."""

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from catalog_schemas.images import read_current
from tests.flows.catalogs import product, write_catalog
from tests.flows.command import Command
from tests.flows.conftest import COMMAND_LIMIT_S, Toygan
from tests.models import condition_file, tiny_model
from toygan.images import decode
from toygan.storage.keys import CURRENT_KEY, manifest_key
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

MODELS = {"toys": "dcgan", "lines": "pix2pix", "masks": "spade"}
ALIASES = {"toys": "champion", "lines": "champion-sketch", "masks": "champion-layout"}


@pytest.fixture
def shop(tmp_path: Path, toygan_here: Command) -> Path:
    """A store with a champion of each kind, beside a folder for layouts and sketches."""
    for name, family in MODELS.items():
        model = tiny_model(family, acceptance=1.0)
        folder = model.write(tmp_path / "models" / name)
        assert toygan_here("models", "add", folder, "--name", name, "--store", tmp_path / "store").code == 0
        promoted = toygan_here("models", "promote", f"{name}@{model.version}", "--store", tmp_path / "store")
        assert promoted.out.splitlines()[0] == f"{ALIASES[name]} is {name}@{model.version}"
    (tmp_path / "files").mkdir()
    for number in range(8):
        (tmp_path / "files" / f"l{number}.png").write_bytes(condition_file("layout", number))
        (tmp_path / "files" / f"s{number}.png").write_bytes(condition_file("sketch", number))
    return tmp_path


def live_models(store: ObjectStore) -> Mapping[str, str]:
    """Who drew the live picture of each sku."""
    live = read_current(store.get(CURRENT_KEY))
    return dict(zip(live["sku"].to_pylist(), live["model_name"].to_pylist(), strict=True))


def files_in(store: Path) -> dict[str, bytes]:
    folders = [path for name in ("images", "conditions") for path in (store / name).rglob("*")]
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in [*folders, store / "current.parquet"]
        if path.is_file()
    }


def test_a_killed_run_of_three_models_goes_on_to_the_same_bytes(
    shop: Path, toygan: Toygan, toygan_here: Command, prefect_environment: dict[str, str]
) -> None:
    files: list[Callable[[int], dict[str, str]]] = [
        lambda number: {},
        lambda number: {"layout_uri": f"files/l{number % 8}.png"},
        lambda number: {"sketch_uri": f"files/s{number % 8}.png"},
        lambda number: {"layout_uri": f"files/l{number % 8}.png", "sketch_uri": "files/s0.png"},
    ]
    rows = [product(number, **files[number % 4](number)) for number in range(96)]
    rows.append(product(96, layout_uri="files/none.png"))
    catalog = write_catalog(shop / "catalog.parquet", rows)
    shutil.copytree(shop / "store", shop / "killed")
    arguments = ["generate", "--catalog", str(catalog), "--run-id", "nightly"]
    command = [sys.executable, "-m", "flows.cli", *arguments, "--output", str(shop / "killed")]
    for pictures in (1, 40):
        process = subprocess.Popen(command, env=prefect_environment, stderr=subprocess.DEVNULL)
        limit_s = time.monotonic() + COMMAND_LIMIT_S
        while sum(1 for _ in (shop / "killed").glob("images/*/*/*.webp")) < pictures:
            assert process.poll() is None
            assert time.monotonic() < limit_s, "waited in vain"
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        psutil.wait_procs(workers, timeout=COMMAND_LIMIT_S)
    for store in ("killed", "store"):
        result = toygan(*arguments, "--output", shop / store)
        assert result.returncode == 0, result.stderr
        assert "1 row set aside" in result.stdout
    assert files_in(shop / "killed") == files_in(shop / "store")
    drawn_by = live_models(open_store(shop / "store"))
    wanted = ("toys", "masks", "lines", "masks")
    assert len(drawn_by) > 80
    assert drawn_by == {sku: wanted[int(sku[-2:]) % 4] for sku in drawn_by}
    for store in ("killed", "store"):
        assert toygan_here("verify", shop / store).code == 0

    toygan(*arguments[:-1], "second", "--output", shop / "store")
    counts = json.loads(open_store(shop / "store").get(manifest_key("second")))["counts"]
    assert (counts["unchanged"], counts["planned"]) == (len(drawn_by), 96 - len(drawn_by))
    for kind in MODELS:
        image_id = next_image_of(open_store(shop / "store"), kind)
        assert toygan_here("reproduce", image_id, "--output", shop / "store").code == 0


def next_image_of(store: ObjectStore, model_name: str) -> str:
    live = read_current(store.get(CURRENT_KEY))
    found: str = live.filter(pc.equal(live["model_name"], model_name))["image_id"][0].as_py()
    return found


def test_rows_of_a_catalog_recolour_and_dress_layouts(shop: Path, toygan: Toygan) -> None:
    rows = {
        "base": {"layout_uri": "files/l0.png"},
        "other": {"layout_uri": "files/l5.png"},
        "recoloured": {"variant_of": "base", "recolour": "1=2"},
        "dressed": {"variant_of": "base", "recolour": "1=3", "dress_from": "other=1"},
    }
    catalog = write_catalog(
        shop / "catalog.parquet", [{**product(0), "sku": sku, **more} for sku, more in rows.items()]
    )
    result = toygan("generate", "--catalog", catalog, "--output", shop / "store", "--format", "png")
    assert result.returncode == 0, result.stderr
    store = open_store(shop / "store")
    live = read_current(store.get(CURRENT_KEY)).to_pylist()
    assert {row["sku"]: row["model_name"] for row in live} == dict.fromkeys(rows, "masks")
    assert len({decode(store.get(row["image_uri"])).tobytes() for row in live}) == len(rows)
    kept = [set(Image.open(io.BytesIO(store.get(info.key))).tobytes()) for info in store.list("conditions/")]
    assert sorted(kept, key=sorted) == [{0, 1}, {0, 1}, {0, 1, 3}, {0, 2}]
    for row in live:
        assert toygan("reproduce", row["image_id"], "--output", shop / "store").returncode == 0


def test_a_model_of_another_kind_is_refused(shop: Path, toygan_here: Command) -> None:
    catalog = write_catalog(shop / "catalog.parquet", [product(0)])
    where = ("--catalog", catalog, "--output", shop / "store")
    for option, name, said in (
        (
            "--model",
            "masks",
            "cannot be the --model, because it takes a layout; give the model by --layout-model",
        ),
        ("--sketch-model", "toys", "cannot be the --sketch-model, because it takes no image"),
        ("--layout-model", "nobody", "there is no model 'nobody'"),
    ):
        outcome = toygan_here("generate", *where, option, name)
        assert (outcome.code, outcome.out) == (2, "")
        assert said in outcome.err
    version = tiny_model("spade", acceptance=1.0).version
    promoted = ("models", "promote", f"masks@{version}", "--store", shop / "store", "--alias")
    refused = toygan_here(*promoted, "champion")
    assert (refused.code, "use champion-layout" in refused.err) == (2, True)
    assert toygan_here(*promoted, "challenger").out == f"challenger is masks@{version}\n"


@pytest.mark.slow
def test_bundled_models_for_images_serve_only_beside_the_bundled_main_one(
    tmp_path: Path, toygan_here: Command
) -> None:
    """Who gives a model of their own does not want sketches drawn as what the bundled one has learnt."""
    (tmp_path / "sketch.png").write_bytes(condition_file("sketch", 0))
    catalog = write_catalog(tmp_path / "catalog.parquet", [product(0, sketch_uri="sketch.png")])
    own = tiny_model("dcgan", acceptance=1.0).write(tmp_path / "models" / "own")
    drawn_by = {}
    for name, model in (("own", ("--model", own)), ("bundled", ())):
        store = tmp_path / name
        toygan_here("generate", "--catalog", catalog, "--output", store, "--run-id", "r", *model)
        parts = sorted(store.glob("metadata/run=r/part-*.parquet"))
        drawn_by[name] = {each for part in parts for each in pq.read_table(part)["model_name"].to_pylist()}
    assert drawn_by == {"own": {"own"}, "bundled": {"toybricks-sketch128"}}
