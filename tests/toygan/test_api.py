"""The public API: its names, and that it makes the pictures of a run."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toygan
from tests.models import COLOURS, condition_file, tiny_model
from tests.toygan.generation.whole_runs import generate as generate_run
from tests.toygan.generation.whole_runs import request, write_inputs
from toygan.artifact.model import Model
from toygan.errors import BadInput
from toygan.images import encode_labels
from toygan.planning.finished import read_part
from toygan.storage.memory import named_memory_store

NAMES = (
    *("BadInput", "Evaluation", "Model", "ModelConfig", "ObjectStore", "Picture", "ToyganError"),
    *("evaluate", "generate", "load_model", "open_store", "score"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return toygan.load_model(str(folder / "tiny"), device="cpu")


def rows(count: int = 4) -> list[dict[str, object]]:
    """The rows of `write_inputs`."""
    title = "Brick 2 x 4, Red, teal lid"
    return [
        {"sku": f"brick-{number}", "category": "brick", "title": title, "colour_hex": COLOURS[number]}
        for number in range(count)
    ]


def test_the_public_names_are_these() -> None:
    assert tuple(toygan.__all__) == NAMES
    assert all(getattr(toygan, name).__doc__ for name in NAMES)
    assert dir(toygan) == sorted(NAMES)
    with pytest.raises(AttributeError, match="module 'toygan' has no attribute 'paint'"):
        toygan.paint  # noqa: B018


@pytest.mark.service
def test_importing_toygan_imports_neither_torch_nor_pyarrow() -> None:
    code = (
        "import sys, toygan; print([name for name in ('torch', 'pyarrow', 'prefect') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_pictures_and_decisions_are_those_of_a_run(folder: Path, model: Model) -> None:
    store = named_memory_store("api")
    generate_run(
        request(folder, output="memory://api", categories=("brick",), batch_size=4, image_format="png")
    )
    by_key = {(row["sku"], row["attempt"]): row for row in read_part(store, "run-1", 0).to_pylist()}
    pictures = toygan.generate(model, rows())
    assert [picture.sku for picture in pictures] == [row["sku"] for row in rows()]
    compared = 0
    for picture in pictures:
        row = by_key[picture.sku, 0]
        assert (picture.seed, picture.threshold) == (row["seed"], row["threshold"])
        # On some CPUs the last bits depend on the size of the batch.
        assert picture.p_real == pytest.approx(row["p_real"], abs=1e-6)
        assert list(picture.reasons) == [reason for reason in row["reasons"] if reason != "near_copy"]
        if row["image_uri"]:
            file = Image.open(BytesIO(store.get(row["image_uri"])))
            assert np.abs(picture.pixels.astype(int) - np.asarray(file)).max() <= 1
            compared += 1
    assert compared
    assert any(picture.approved for picture in pictures)


def test_another_attempt_is_another_picture(model: Model) -> None:
    first, second = (toygan.generate(model, rows(1), attempt=attempt)[0] for attempt in (1, 2))
    assert first.seed != second.seed
    assert not np.array_equal(first.pixels, second.pixels)


def test_pictures_are_scored_as_they_were_when_generated(model: Model) -> None:
    pictures = toygan.generate(model, rows())
    scores = toygan.score(model, np.stack([each.pixels for each in pictures]), rows())
    assert scores == pytest.approx([each.p_real for each in pictures], abs=1e-6)


def test_a_sketch_is_read_from_its_file(tmp_path: Path) -> None:
    sketches = toygan.load_model(str(tiny_model("pix2pix").write(tmp_path / "tiny")), device="cpu")
    with pytest.raises(BadInput, match="the row 'brick-0' has no sketch_uri, and tiny generates from this"):
        toygan.generate(sketches, rows(1))
    with pytest.raises(BadInput, match=r"the row 'brick-0': .*No such file"):
        toygan.generate(sketches, [rows(1)[0] | {"sketch_uri": tmp_path / "gone.png"}])
    (tmp_path / "sketch.png").write_bytes(condition_file("sketch", 1))
    [picture] = toygan.generate(sketches, [rows(1)[0] | {"sketch_uri": tmp_path / "sketch.png"}])
    assert picture.pixels.shape == (32, 32, 3)


def test_a_file_that_cannot_be_used_is_named_with_its_row(tmp_path: Path) -> None:
    layouts = toygan.load_model(str(tiny_model("spade").write(tmp_path / "tiny")), device="cpu")
    files = {"text.png": b"text", "odd.png": encode_labels(np.full((32, 32), 200, np.uint8))}
    messages = {
        "text.png": "this is not a JPEG",
        "odd.png": "its layout holds the label 200, tiny knows 0 to",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=f"the row 'brick-0': {messages[name]}"):
            toygan.generate(layouts, [rows(1)[0] | {"layout_uri": tmp_path / name}])


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 32, 32, 3))],
    ids=["too many", "too large", "no bytes"],
)
def test_images_that_cannot_be_scored_are_refused(model: Model, images: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"the images are .*; tiny scores \(1, 32, 32, 3\) uint8"):
        toygan.score(model, images, rows(1))


def test_a_row_makes_its_layout_from_another_row(tmp_path: Path) -> None:
    layouts = toygan.load_model(str(tiny_model("spade").write(tmp_path / "tiny")), device="cpu")
    (tmp_path / "one.png").write_bytes(condition_file("layout", 1, 1))
    (tmp_path / "two.png").write_bytes(condition_file("layout", 1, 2))
    first, second = rows(2)
    base = first | {"layout_uri": tmp_path / "one.png"}
    own = second | {"layout_uri": tmp_path / "two.png"}
    made = second | {"variant_of": first["sku"], "recolour": "1=2"}
    _, wanted = toygan.generate(layouts, [base, own])
    _, found = toygan.generate(layouts, [base, made])
    assert np.array_equal(found.pixels, wanted.pixels)
    for changes, message in (
        ({"variant_of": "gone"}, "variant_of: no_row_with_layout: gone"),
        ({"recolour": "red"}, "recolour: malformed: 'red'"),
        ({"recolour": "3=2"}, "label_not_in_layout: 3"),
        ({"recolour": "1=9"}, "its layout holds the label 9, tiny knows 0 to 4"),
        ({"dress_from": "brick-0=shine"}, "dress_from: unknown_label: shine"),
    ):
        with pytest.raises(BadInput, match=f"the row 'brick-1': {message}"):
            toygan.generate(layouts, [base, made | changes])


def test_a_model_without_layouts_refuses_an_edited_layout(model: Model) -> None:
    with pytest.raises(BadInput, match="'brick-0': recolour describes a layout, and tiny takes none; leave"):
        toygan.generate(model, [rows(1)[0] | {"recolour": "red=blue"}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": None}, "the row 'brick-0' has no title; a row has sku, category, title"),
        ({"category": "boat"}, "tiny knows no category 'boat'; it knows brick, car, wheel"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(model: Model, changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        toygan.generate(model, [rows(1)[0] | changes])
