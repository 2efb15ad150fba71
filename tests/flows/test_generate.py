"""What a shop does night after night, through the command line and a real Prefect server."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from catalog_schemas.images import read_current
from tests.flows.catalogs import product, write_catalog
from tests.flows.conftest import COMMAND_LIMIT_S, Toygan
from tests.models import nan_model, tiny_model
from tests.servers import ask_prefect
from toygan.publishing.verify import verify
from toygan.storage.keys import CURRENT_KEY, manifest_key
from toygan.storage.open_store import open_store

PRODUCTS = 24


class Shop:
    """A folder with a model, a catalog and a store."""

    def __init__(self, folder: Path, toygan: Toygan) -> None:
        self._toygan = toygan
        self.model = tiny_model(acceptance=1.0).write(folder / "tiny")
        self.catalog = folder / "catalog.parquet"
        self.output = folder / "store"
        self.rows = [product(number) for number in range(PRODUCTS)]

    def night(self, run_id: str, *arguments: str, code: int = 0) -> dict[str, int]:
        """Runs the catalog as it is now; returns the counts of the manifest."""
        write_catalog(self.catalog, self.rows)
        where = ["--catalog", self.catalog, "--output", self.output, "--model", self.model]
        result = self._toygan("generate", *where, "--run-id", run_id, *arguments)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        self.said = result.stdout + result.stderr
        store = open_store(self.output)
        counts: dict[str, int] = json.loads(store.get(manifest_key(run_id)))["counts"]
        return counts

    def live(self) -> dict[str, Any]:
        """The rows of the live table by sku."""
        return {row["sku"]: row for row in read_current(self.current()).to_pylist()}

    def current(self) -> bytes:
        return open_store(self.output).get(CURRENT_KEY)


@pytest.fixture
def shop(tmp_path: Path, toygan: Toygan) -> Shop:
    return Shop(tmp_path, toygan)


def test_only_missing_or_changed_pictures_are_generated(
    shop: Shop, toygan: Toygan, prefect_environment: dict[str, str]
) -> None:
    assert shop.night("first")["planned"] == PRODUCTS
    first = shop.live()
    assert len(first) == PRODUCTS
    assert "contact sheet" in shop.said

    counts = shop.night("second")
    assert (counts["planned"], counts["unchanged"]) == (0, PRODUCTS)
    assert shop.live() == first

    shop.rows[5]["colour_hex"] = "#123456"
    shop.rows[6]["images_wanted"] = 2
    assert shop.night("third")["planned"] == 2
    third = shop.live()
    changed = {sku for sku in first if third[sku] != first[sku]}
    # Of the second image of a product the live table holds a row of its own, under the same sku.
    assert shop.rows[5]["sku"] in changed <= {shop.rows[5]["sku"], shop.rows[6]["sku"]}
    assert len(read_current(shop.current())) == PRODUCTS + 1

    found = artifacts(prefect_environment["PREFECT_API_URL"], "Run third")
    assert "`third`" in found["generate-catalog"]
    assert f"{PRODUCTS + 1 - 2:,} pictures live already, 2 planned" in found["generate-catalog"]
    assert found["generate-catalog-progress"] == 100
    assert json.loads(found["generate-catalog-categories"])[-1]["planned"] == 2
    link = re.fullmatch(r"\[Contact sheet\]\((file:.+)\)", found["generate-catalog-report"])
    assert link is not None
    sheet = Path(unquote(urlsplit(link[1]).path))
    assert 'href="../index.html"' in sheet.read_text()
    assert "3 runs since" in (sheet.parent.parent / "index.html").read_text()
    assert run_names(prefect_environment["PREFECT_API_URL"], str(shop.catalog)) == 3

    image_id = first[shop.rows[0]["sku"]]["image_id"]
    toygan_models = toygan("models", "add", shop.model, "--name", "tiny", "--store", shop.output)
    assert toygan_models.returncode == 0, toygan_models.stderr
    again = toygan("reproduce", image_id, "--output", shop.output)
    assert again.returncode == 0, again.stderr


def artifacts(url: str, description: str) -> dict[str, Any]:
    """The data of a run's artifacts by key."""
    prefix = {"artifacts": {"key": {"like_": "generate-catalog"}}, "sort": "CREATED_DESC"}
    found = ask_prefect(url, "POST", "/artifacts/filter", prefix)
    return {each["key"]: each["data"] for each in reversed(found) if each["description"] == description}


def run_names(url: str, catalog: str) -> int:
    """The number of runs whose name says what they do with the catalog."""
    wanted = {"flow_runs": {"name": {"any_": [f"missing pictures of {catalog}"]}}}
    return len(ask_prefect(url, "POST", "/flow_runs/filter", wanted))


def test_a_new_model_refreshes_what_an_older_one_drew(shop: Shop, tmp_path: Path) -> None:
    shop.night("first")
    first = shop.live()
    shop.model = tiny_model(seed=1, acceptance=1.0).write(tmp_path / "newer" / "tiny")
    assert shop.night("missing")["planned"] == 0
    assert shop.night("refresh", "--mode", "refresh")["planned"] == PRODUCTS
    versions = {row["model_version"] for row in shop.live().values()}
    assert versions.isdisjoint(row["model_version"] for row in first.values())
    assert shop.night("all", "--mode", "all", "--limit", "3")["planned"] == 3


def test_a_run_id_belongs_to_one_catalog_and_one_setting(shop: Shop) -> None:
    shop.night("first")
    before = shop.current()
    assert shop.night("first") == shop.night("first")
    shop.night("first", "--format", "png", code=2)
    assert "format" in shop.said
    shop.rows[0]["title"] = "Another"
    shop.night("first", code=2)
    assert "catalog" in shop.said
    assert shop.current() == before


def test_a_generator_of_nan_fails_the_run_and_replaces_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.night("first")
    before = shop.current()
    shop.model = nan_model().write(tmp_path / "broken" / "tiny")
    counts = shop.night("broken", "--mode", "all", code=1)
    assert (counts["approved"], counts["review"], counts["rejected"]) == (0, 0, 4 * PRODUCTS)
    assert "none is finite" in shop.said
    assert shop.current() == before
    assert shop.night("broken", "--mode", "all", code=1) == counts


REPORTS_ITS_IMPORTS = """
import sys
from flows.cli import main
main()
print([name for name in ("prefect", "timm", "torchvision") if name in sys.modules])
"""


def test_a_night_without_work_imports_no_prefect(shop: Shop, prefect_environment: dict[str, str]) -> None:
    shop.night("first")
    first = shop.live()
    environment = {
        name: value
        for name, value in prefect_environment.items()
        if not name.startswith("PREFECT_") or name == "PREFECT_HOME"
    }
    where = ["--catalog", shop.catalog, "--output", shop.output, "--model", shop.model]
    result = subprocess.run(
        [sys.executable, "-c", REPORTS_ITS_IMPORTS, "generate", *map(str, where), "--run-id", "second"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
    )
    assert (result.returncode, result.stderr) == (0, "run second\n")
    assert f"{PRODUCTS} pictures live already" in result.stdout
    assert result.stdout.endswith("[]\n"), result.stdout
    assert shop.live() == first
    store = open_store(shop.output)
    assert json.loads(store.get(manifest_key("second")))["counts"]["unchanged"] == PRODUCTS
    assert verify(store).problems == ()


def test_nothing_is_logged_of_a_run_that_goes_well(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    """Where the user has set no level, Prefect's own would tell of every task."""
    environment = {
        name: value for name, value in prefect_environment.items() if name != "PREFECT_LOGGING_LEVEL"
    }
    model = tiny_model(acceptance=1.0).write(tmp_path / "tiny")
    catalog = write_catalog(tmp_path / "catalog.parquet", [product(number) for number in range(3)])
    where = ["--catalog", catalog, "--output", tmp_path / "store", "--model", model]
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", "generate", *map(str, where)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
    )
    assert result.returncode == 0, result.stderr
    assert "contact sheet" in result.stdout
    assert "INFO" not in result.stdout + result.stderr
