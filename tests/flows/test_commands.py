"""The commands around the main job: what they print, and how they end."""

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows import local
from flows.cli import cli
from flows.exits import BAD_INPUT, FAILED
from flows.parameters import GenerateParameters
from tests.conftest import REPOSITORY
from tests.flows.catalogs import products
from tests.flows.command import Command
from tests.flows.conftest import Toygan
from tests.toygan.generation.whole_runs import MODEL, generate, request, write_inputs
from toygan.generation.request import RunRequest, resolve_run
from toygan.generation.run import start_run
from toygan.publishing.summary import RunSummary
from toygan.publishing.verify import verify
from toygan.storage.keys import report_key
from toygan.storage.open_store import open_store


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the tiny model, a catalog and the store of a finished run."""
    write_inputs(tmp_path)
    generate(request(tmp_path, output=str(tmp_path / "store")))
    return tmp_path


def some_picture(store: Path) -> Path:
    return next(store.glob("images/*/*/*.webp"))


# generate, demo


def test_options_reach_the_run(tmp_path: Path, toygan_here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option of the command is a field of the request, none is lost on the way."""
    seen: dict[str, object] = {}

    def generated(**parameters: object) -> RunSummary:
        seen.update(parameters)
        summary: RunSummary = generate(request(write_inputs(tmp_path)))
        return summary

    monkeypatch.setattr(local, "run_generate", generated)
    outcome = toygan_here(
        *("generate", "--catalog", "a.parquet", "--output", "s3://b/c", "--model", "m@champion"),
        *("--images-per-product", "3", "--category", "car", "--category", "brick", "--mode", "refresh"),
        *("--retire", "0.5"),
        *(
            "--map",
            "title=Name",
            "--limit",
            "7",
            "--format",
            "png",
            "--device",
            "cpu",
            "--batch-size",
            "64",
            "--run-id",
            "r",
        ),
    )
    assert outcome.code == 0, outcome.err
    assert seen == {
        "catalog": "a.parquet",
        "output": "s3://b/c",
        "models": {"main": "m@champion"},
        "retire": 0.5,
        "images_per_product": 3,
        "categories": ("car", "brick"),
        "columns": ("title=Name",),
        "mode": "refresh",
        "limit": 7,
        "image_format": "png",
        "device": "cpu",
        "batch_size": 64,
        "run_id": "r",
    }
    lines = outcome.out.splitlines()
    assert lines[0].startswith("run run-1: 12 products, 1 row set aside")
    assert lines[2].endswith("reports/run-1/index.html")


def test_the_flow_gets_the_request_that_was_planned() -> None:
    """As equal values, or the run would be planned again."""
    planned = RunRequest(
        catalog="catalog.csv", output="out", run_id="r", categories=("car",), columns={"title": "name"}
    )
    assert RunRequest(**GenerateParameters(**asdict(planned)).model_dump()) == planned


def test_the_demo_needs_nothing_but_itself(tmp_path: Path, toygan: Toygan) -> None:
    """The bundled models and catalog; the second run finds the pictures of the first.

    It has more to draw than what the first could not: a run of which nothing is approved fails.
    """
    store = tmp_path / "demo"
    first = toygan("demo", "--limit", "12", "--output", store)
    assert first.returncode == 0, first.stderr
    assert "12 products, 0 rows set aside, 0 pictures live already" in first.stdout
    assert "Traceback" not in first.stderr
    approved = len(list(store.glob("images/*/*/*.webp")))
    assert approved > 0
    assert verify(open_store(store)).problems == ()
    second = toygan("demo", "--limit", "24", "--output", store)
    assert f"{approved} pictures live already" in second.stdout


def test_the_catalog_of_the_demo_is_good() -> None:
    catalog = REPOSITORY / "toygan" / "pretrained" / "demo_catalog.parquet"
    local.check_catalog(str(catalog))
    assert pq.read_metadata(catalog).num_rows > 20


# verify


def test_verify_proves_a_store_whole(shop: Path, toygan_here: Command) -> None:
    outcome = toygan_here("verify", shop / "store")
    assert outcome.code == 0
    assert outcome.out == f"{shop / 'store'} is whole: 12 pictures of 1 runs\n"
    start_run(resolve_run(request(shop, output=str(shop / "store"), run_id="run-2", mode="all")))
    assert toygan_here("verify", shop / "store").out.endswith("12 pictures of 1 runs, 1 unfinished\n")


def test_verify_tells_each_problem_on_a_line(shop: Path, toygan_here: Command) -> None:
    store = shop / "store"
    changed, gone = sorted(store.glob("images/*/*/*.webp"))[:2]
    changed.write_bytes(b"something else")
    gone.unlink()
    stray = store / "images" / "brick" / "other" / f"{'0' * 20}.webp"
    stray.parent.mkdir()
    stray.write_bytes(b"stray")
    outcome = toygan_here("verify", store)
    assert outcome.code == FAILED
    assert outcome.err.endswith(f"3 problems in {store}\n")
    printed = outcome.out.splitlines()
    assert len(printed) == 3
    for path, what in ((changed, "has the sha256"), (gone, "missing"), (stray, "left over")):
        assert [line for line in printed if str(path.relative_to(store)) in line and what in line]


def test_verify_prunes_what_is_left_over(shop: Path, toygan_here: Command) -> None:
    stray = shop / "store" / "review" / "run=run-1" / f"{'0' * 20}.webp"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"stray")
    outcome = toygan_here("verify", shop / "store", "--prune")
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == f"removed review/run=run-1/{'0' * 20}.webp"
    assert not stray.exists()


@pytest.mark.parametrize("uri", ["nowhere", "ftp://x"])
def test_verify_takes_nothing_for_a_store(uri: str, tmp_path: Path, toygan_here: Command) -> None:
    outcome = toygan_here("verify", uri if "://" in uri else tmp_path / uri)
    assert outcome.code == BAD_INPUT
    assert "Traceback" not in outcome.err


# report, reproduce


def test_report_writes_the_page_anew(shop: Path, toygan_here: Command) -> None:
    page = shop / "store" / report_key("run-1")
    page.unlink()
    outcome = toygan_here("report", "--output", shop / "store", "--run-id", "run-1")
    assert (outcome.code, outcome.out) == (0, f"{page}\n")
    assert page.read_text().startswith("<!")
    other = toygan_here("report", "--output", shop / "store", "--run-id", "run-2")
    assert other.code == BAD_INPUT
    assert "has no finished run run-2" in other.err


def test_reproduce_compares_the_bytes(shop: Path, toygan_here: Command) -> None:
    store, picture = shop / "store", some_picture(shop / "store")
    gone = toygan_here("reproduce", picture.stem, "--output", store)
    assert gone.code == BAD_INPUT
    assert f"there is no model 'tiny@{MODEL.version}'" in gone.err
    added = toygan_here("models", "add", shop / "tiny", "--name", "tiny", "--store", store)
    assert (added.code, added.out) == (0, f"tiny@{MODEL.version}\n")
    outcome = toygan_here("reproduce", picture.stem, "--output", store, "--device", "cpu")
    assert outcome.code == 0
    assert outcome.out == (
        f"{picture.stem}: the same {picture.stat().st_size} bytes as {picture.relative_to(store)}\n"
    )
    unknown = toygan_here("reproduce", "0" * 20, "--output", store)
    assert unknown.code == BAD_INPUT
    assert "stored a picture of this id" in unknown.err


# the command itself


def test_every_command_explains_itself(toygan_here: Command) -> None:
    names = [*cli.commands, *(f"models {name}" for name in cli.commands["models"].commands)]  # type: ignore[attr-defined]
    assert {"demo", "generate", "train", "calibrate", "models", "report", "reproduce", "verify"} < set(names)
    for name in ["", *names]:
        outcome = toygan_here(*name.split(), "--help")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"Usage: toygan {name}".rstrip())


@pytest.mark.service
def test_help_is_light() -> None:
    """Its half second is measured among the benchmarks; here, that nothing heavy is imported for it."""
    code = (
        "import sys\nfrom flows.cli import cli\ncli(['generate', '--help'], standalone_mode=False)\n"
        "print(*{'torch', 'pandas', 'pyarrow', 'prefect', 'numpy', 'boto3', 'sklearn'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == ""


@pytest.mark.service
def test_the_installed_command_is_this_one() -> None:
    command = Path(sys.executable).with_name("toygan")
    result = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"toygan, version \d+\.\d+\.\d+\n", result.stdout)


def test_an_unexpected_error_is_shown_whole(
    tmp_path: Path, toygan_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug is no bad input: it needs its traceback."""

    def broken(**parameters: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(local, "run_generate", broken)
    catalog = products(tmp_path / "catalog.parquet", 1)
    with pytest.raises(ZeroDivisionError):
        toygan_here("generate", "--catalog", catalog, "--output", tmp_path / "out")
