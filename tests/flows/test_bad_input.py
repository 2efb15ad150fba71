"""Bad input ends the command with 2 and says what is wrong; nothing is generated or written."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import local, local_server, steps
from tests.catalog_schemas.tables import catalog_table
from tests.conftest import REPOSITORY
from tests.flows.catalogs import product, products, write_catalog
from tests.flows.command import Command, Outcome
from tests.models import MakesAFolder, TinyFiles, tiny_model
from toygan.errors import BadInput, StoreConfigError
from toygan.generation.run import StartedRun
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store

TINY = tiny_model()
OTHER_SHAPES = TINY.with_files(
    generator=tiny_model(categories=("brick", "car")).files["generator.safetensors"]
)
BAD_INPUT = 2


class Generates(BaseException):
    """The command went as far as to compute shards."""


@pytest.fixture(autouse=True)
def _nothing_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(run: StartedRun) -> None:
        raise Generates

    monkeypatch.setattr(local, "configured_server", lambda: None)
    monkeypatch.setattr(steps, "compute_shards", reach)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY.write(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return products(tmp_path / "catalog.parquet", 6)


def assert_refused(outcome: Outcome, said: str, output: Path) -> None:
    assert outcome.code == BAD_INPUT
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not output.exists()


# catalogs


def missing(path: Path) -> None:
    pass


def a_folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def not_parquet(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def truncated(path: Path) -> None:
    products(path, 500)
    path.write_bytes(path.read_bytes()[:-300])


def without_title(path: Path) -> None:
    pq.write_table(pq.read_table(products(path, 5)).drop_columns(["title"]), path)


def numbers_for_skus(path: Path) -> None:
    table = pq.read_table(products(path, 5))
    pq.write_table(table.set_column(0, "sku", pa.array(range(5))), path)


def no_rows(path: Path) -> None:
    write_catalog(path, [])


def no_good_rows(path: Path) -> None:
    changes: list[dict[str, object]] = [
        {"sku": None},
        {"sku": "../../x"},
        {"colour_hex": "red"},
        {"title": ""},
    ]
    pq.write_table(catalog_table([product(number, **each) for number, each in enumerate(changes)]), path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (missing, "the catalog cannot be read (No such file or directory); check the path"),
        (a_folder, "no snapshot in this folder"),
        (empty, "the file is empty"),
        (not_parquet, "not a catalog"),
        (truncated, "truncated"),
        (without_title, "the required column 'title' is missing"),
        (numbers_for_skus, "column 'sku' has the type int64; it must be string"),
        (no_rows, "the catalog has no rows"),
        (no_good_rows, "none of the 4 rows can be used"),
    ],
)
def test_a_catalog_that_cannot_be_used(
    make: Callable[[Path], None], said: str, tmp_path: Path, model: Path, toygan_here: Command
) -> None:
    catalog, output = tmp_path / "bad.parquet", tmp_path / "out"
    make(catalog)
    outcome = toygan_here("generate", "--catalog", catalog, "--model", model, "--output", output)
    assert_refused(outcome, said, output)
    assert str(catalog) in outcome.err


def test_a_catalog_that_is_not_in_its_bucket(
    s3_uri: str, tmp_path: Path, model: Path, toygan_here: Command
) -> None:
    output = tmp_path / "out"
    for uri in (f"{s3_uri}/catalog.parquet", f"{s3_uri}-other/catalog.parquet"):
        outcome = toygan_here("generate", "--catalog", uri, "--model", model, "--output", output)
        assert_refused(outcome, s3_uri, output)


# models


def with_files(**changes: bytes | None) -> TinyFiles:
    return TINY.with_files(**changes)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (with_files(generator=None), "generator.safetensors is missing"),
        (with_files(discriminator=None), "discriminator.safetensors is missing"),
        (with_files(config=None), "config.json is missing"),
        (with_files(calibration=None), "the model tiny is not calibrated; run `toygan calibrate`"),
        (with_files(generator=b""), "generator.safetensors is not a whole safetensors file"),
        (
            with_files(generator=TINY.files["generator.safetensors"][:-9]),
            "generator.safetensors is not a whole safetensors file",
        ),
        (with_files(config=b"{"), "config.json is not JSON"),
        (
            with_files(config=b'{"family": "dcgan"}'),
            "config.json of the model tiny does not describe a model",
        ),
        (with_files(calibration=b"{}"), "the calibration of the model cannot be used"),
        (OTHER_SHAPES, "generator.safetensors of the model tiny: the weights do not fit the model"),
    ],
)
def test_a_model_that_cannot_be_used(
    bad: TinyFiles, said: str, tmp_path: Path, catalog: Path, toygan_here: Command
) -> None:
    folder, output = bad.write(tmp_path / "tiny"), tmp_path / "out"
    outcome = toygan_here("generate", "--catalog", catalog, "--model", folder, "--output", output)
    assert_refused(outcome, said, output)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nobody", "there is no model 'nobody'"),
        ("tiny@0123456789ab", "there is no model 'tiny@0123456789ab'"),
        ("./no/such/folder", "there is no such folder"),
    ],
)
def test_a_model_that_is_not_there(
    reference: str, said: str, tmp_path: Path, catalog: Path, toygan_here: Command
) -> None:
    output = tmp_path / "out"
    outcome = toygan_here("generate", "--catalog", catalog, "--model", reference, "--output", output)
    assert_refused(outcome, said, output)


# what else the user says


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--category", "boat"], "makes no pictures of boat; known are brick, car, wheel"),
        (["--run-id", "../x"], "the run id '../x' is not"),
        (["--run-id", ".hidden"], "the run id '.hidden' is not"),
        (["--mode", "some"], "'some' is not one of 'missing', 'refresh', 'retry', 'all'"),
        (["--format", "gif"], "'gif' is not one of"),
        (["--limit", "0"], "0 is not in the range x>=1"),
        (["--images-per-product", "65"], "65 is not in the range"),
        (["--batch-size", "many"], "'many' is not a valid integer"),
        (["--colour", "red"], "No such option"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_an_option_that_means_nothing(
    arguments: list[str], said: str, tmp_path: Path, model: Path, catalog: Path, toygan_here: Command
) -> None:
    output = tmp_path / "out"
    where = ("--catalog", catalog, "--model", model, "--output", output)
    assert_refused(toygan_here("generate", *where, *arguments), said, output)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("ftp://shop", "unknown kind of store 'ftp'"),
        ("", "the store's URI is empty"),
        ("s3://", "cannot be a bucket's name"),
        ("file://elsewhere/shop", "not a file URI of this machine"),
    ],
)
def test_a_store_that_means_nothing(
    output: str, said: str, tmp_path: Path, model: Path, catalog: Path, toygan_here: Command
) -> None:
    outcome = toygan_here("generate", "--catalog", catalog, "--model", model, "--output", output)
    assert_refused(outcome, said, tmp_path / "out")


def test_a_command_that_is_none(toygan_here: Command) -> None:
    outcome = toygan_here("paint")
    assert (outcome.code, outcome.out) == (BAD_INPUT, "")
    assert "No such command 'paint'" in outcome.err


def test_good_input_does_reach_the_shards(
    tmp_path: Path, model: Path, catalog: Path, toygan_here: Command
) -> None:
    """Or the tests above would prove nothing."""
    with pytest.raises(Generates):
        toygan_here("generate", "--catalog", catalog, "--model", model, "--output", tmp_path / "out")


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_cluster_without_a_usable_server_leaves_nothing(
    tmp_path: Path,
    model: Path,
    catalog: Path,
    toygan_here: Command,
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
) -> None:
    def refuse() -> str:
        raise BadInput("the database is damaged")

    monkeypatch.setenv("TOYGAN_RUNNER", runner)
    monkeypatch.setattr(local_server, "temporary_server", refuse)
    outcome = toygan_here("generate", "--catalog", catalog, "--model", model, "--output", tmp_path / "out")
    assert (outcome.code, outcome.out) == (BAD_INPUT, "")
    assert outcome.err.endswith("toygan: the database is damaged\n")
    with pytest.raises(StoreConfigError, match="nothing"):
        verify(open_store(tmp_path / "out"))


# as a process


@pytest.mark.service
def test_a_process_ends_with_two_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "generate", "--catalog", "none.parquet", "--output", "out"]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == BAD_INPUT
    assert result.stderr == (
        "toygan: none.parquet: the catalog cannot be read (No such file or directory); check the path\n"
    )
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_for_weights_is_never_loaded(tmp_path: Path, catalog: Path, toygan_here: Command) -> None:
    bait, output = tmp_path / "somebody-was-here", tmp_path / "out"
    hostile = with_files(generator=pickle.dumps(MakesAFolder(bait))).write(tmp_path / "tiny")
    outcome = toygan_here("generate", "--catalog", catalog, "--model", hostile, "--output", output)
    assert_refused(outcome, "generator.safetensors is a pickle, which could run any code", output)
    assert not bait.exists()
