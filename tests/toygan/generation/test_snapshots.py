"""Products that are drawn from the shop's own snapshot, with a network that finds red things."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catalog_schemas.images import APPROVED, REVIEW
from catalog_schemas.validation import REJECTED_ROWS, read_parquet_bytes
from tests.catalog_schemas.tables import product, write_catalog
from tests.models import CPU, condition_file, tiny_model, tiny_studio
from tests.toygan.artifact.red_products import Red, picture
from tests.toygan.generation.whole_runs import generate, lead_to, request, rows_of
from toygan import api
from toygan.artifact.compiled_mask_network import CompiledMaskNetwork
from toygan.conditions.condition_types import ModelRole
from toygan.images import decode
from toygan.planning.finished import read_manifest
from toygan.publishing.reproduce import reproduce
from toygan.registry.models import add_model
from toygan.storage.keys import condition_key, rejected_rows_key
from toygan.storage.memory import MemoryStore

TALL = (120, 260, 240, 120)  # top, left, height, width of the red product in a picture of 480 x 640


def saved(pixels: np.ndarray, image_format: str, **options: Any) -> bytes:
    if image_format == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, **options)
    return file.getvalue()


def lying() -> bytes:
    """The tall product as a telephone that was held sideways stores it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(np.rot90(picture(TALL)).copy(), "JPEG", quality=95, exif=exif)


FILES: dict[str, Callable[[], bytes]] = {
    "upright.jpg": lambda: saved(picture(TALL), "JPEG", quality=95),
    "lying.jpg": lying,
    "telephone.heic": lambda: saved(picture(TALL), "HEIF", quality=90),
    "nothing.jpg": lambda: saved(picture(), "JPEG"),
    "two.png": lambda: saved(picture((150, 60, 150, 150), (150, 400, 140, 150)), "PNG"),
    "cut.png": lambda: saved(picture((100, 0, 200, 200)), "PNG"),
    "broken.jpg": lambda: saved(picture(TALL), "JPEG")[:900],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "layout.png").write_bytes(condition_file("layout", 0))
    for name, content in FILES.items():
        (folder / name).write_bytes(content())
    tiny_model(acceptance=1.0).write(folder / "tiny")
    tiny_model("spade", acceptance=1.0).write(folder / "tiny-spade")
    tiny_studio().write(folder / "tiny-studio")
    rows = [product(sku=name.partition(".")[0], photo_uri=name) for name in FILES]
    rows += [product(sku="both", photo_uri="upright.jpg", layout_uri="layout.png")]
    write_catalog(folder / "catalog.parquet", rows)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[MemoryStore]:
    """A store in which the catalog has been generated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledMaskNetwork, "forward", Red.forward)
        store = MemoryStore("run")
        lead_to(store, patch)
        for name in ("tiny", "tiny-spade", "tiny-studio"):
            add_model(store, folder / name, name)
        models: dict[ModelRole, str] = {"main": "tiny", "layout": "tiny-spade", "photo": "tiny-studio"}
        generate(replace(request(folder), models=models, batch_size=None))
        yield store


def test_snapshots_become_pictures_or_go_to_a_person(store: MemoryStore, folder: Path) -> None:
    rows = {row["sku"]: row for row in rows_of(store)}
    manifest = read_manifest(store, "run-1")
    assert manifest is not None
    assert len(rows) == manifest.counts["planned"] == 7
    assert {row["model_family"] for row in rows.values()} == {"studio"}
    for sku in ("upright", "lying", "telephone", "both"):
        row = rows[sku]
        assert (row["decision"], row["reasons"]) == (APPROVED, [])
        assert list(row["condition_sha256"]) == ["photo"]
        assert json.loads(row["conditions"])["snapshot"]["own_pixels"] == pytest.approx(240, abs=6)
        pixels = decode(store.get(row["image_uri"]))
        assert pixels.shape == (64, 64, 3)
        shown = (pixels[..., 1] < 128).nonzero()
        assert np.ptp(shown[0]) == pytest.approx(54, abs=3)  # upright: taller than wide
        assert np.ptp(shown[1]) == pytest.approx(27, abs=3)
        assert (pixels[:4] > 240).all()  # the blue table is gone
    for sku, reason in (
        ("nothing", "product_not_found"),
        ("two", "several_products"),
        ("cut", "product_cut_off"),
    ):
        assert rows[sku]["decision"] == REVIEW
        assert reason in rows[sku]["reasons"]
    kept = store.get(condition_key(rows["lying"]["condition_sha256"]["photo"]))
    assert kept == (folder / "lying.jpg").read_bytes()


def test_a_damaged_snapshot_sets_its_row_aside(store: MemoryStore) -> None:
    key = rejected_rows_key("run-1")
    (row,) = read_parquet_bytes(store.get(key), REJECTED_ROWS, key).to_pylist()
    assert (row["sku"], row["column"]) == ("broken", "photo_uri")
    assert row["reason"].startswith("condition_file_unusable: broken.jpg: the picture is damaged")


def test_a_picture_of_a_snapshot_is_made_again(store: MemoryStore) -> None:
    row = next(row for row in rows_of(store) if row["sku"] == "lying")
    assert "the same" in reproduce(store, row["image_id"], CPU)


@pytest.mark.usefixtures("store")
def test_the_public_names_give_the_same_reasons(folder: Path) -> None:
    model = api.load_model(str(folder / "tiny-studio"))
    rows = [product(sku=name, photo_uri=str(folder / name)) for name in ("upright.jpg", "two.png")]
    good, several = api.generate(model, rows)
    assert good.reasons == ()
    assert "several_products" in several.reasons
