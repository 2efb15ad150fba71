"""Models of the Hugging Face Hub on the command line."""

from pathlib import Path

import pandas as pd
import pytest

from tests.flows.catalogs import product, write_catalog
from tests.flows.command import Command
from tests.flows.conftest import Toygan
from tests.hub_server import TOKEN, Hub
from tests.models import tiny_model
from toygan.registry.models import resolve


def test_a_bundled_model_is_written_with_its_card(tmp_path: Path, toygan_here: Command) -> None:
    outcome = toygan_here("models", "push", "toybricks-layout128", tmp_path / "to", "--license", "apache-2.0")
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "to" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: toygan\nlicense: apache-2.0\n")
    assert "# toybricks-layout128" in text
    assert "](../" not in text


def test_a_name_is_no_place_to_push_to(tmp_path: Path, toygan_here: Command) -> None:
    folder = tiny_model().write(tmp_path / "tiny")
    outcome = toygan_here("models", "push", folder, "toys")
    assert outcome.code == 2
    assert "toys: give hf:OWNER/NAME, or a folder as ./FOLDER" in outcome.err


@pytest.mark.service
def test_a_model_goes_to_the_hub_and_from_there_into_a_store(
    hub: Hub, tmp_path: Path, toygan_here: Command
) -> None:
    folder = tiny_model().write(tmp_path / "tiny")
    (folder / "model_card.md").write_text("# tiny")
    pushed = toygan_here("models", "push", folder, "hf:shop/toys")
    assert pushed.code == 0, pushed.err
    store = tmp_path / "store"
    added = toygan_here("models", "add", "hf:shop/toys", "--name", "mine", "--store", store)
    assert added.code == 0, added.err
    version = resolve(str(folder), None).version
    assert added.out == f"mine@{version}\n"
    assert (store / "models" / "mine" / version / "model_card.md").read_text() == "# tiny"
    missing = toygan_here("models", "add", "hf:shop/boats", "--name", "mine", "--store", store)
    assert missing.code == 2
    assert "hf:shop/boats: the Hub shows no such model" in missing.err


@pytest.mark.slow
def test_a_model_of_the_hub_generates(hub: Hub, tmp_path: Path, toygan_here: Command, toygan: Toygan) -> None:
    folder = tiny_model().write(tmp_path / "tiny")
    assert toygan_here("models", "push", folder, "hf:shop/toys").code == 0
    catalog = write_catalog(tmp_path / "catalog.parquet", [product(0), product(1)])
    where = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}
    made = toygan(
        *("generate", "--catalog", catalog, "--output", tmp_path / "store", "--model", "hf:shop/toys"),
        **where,
    )
    assert made.returncode == 0, made.stderr
    rows = pd.concat(map(pd.read_parquet, (tmp_path / "store" / "metadata").rglob("part-*.parquet")))
    assert set(rows["model_name"]) == {"toys"}
    assert set(rows["model_version"]) == {resolve(str(folder), None).version}
