"""`toygan decide`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from catalog_schemas.images import REVIEW
from flows.cli import cli
from tests.toygan.review.shop import commit, live, picture
from toygan.errors import BadInput
from toygan.storage.local import LocalStore

GOOD, CANDIDATE = picture(0, "run-1"), picture(1, "run-1", REVIEW)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    made = LocalStore(tmp_path)
    commit(made, "run-1", GOOD, CANDIDATE)
    return made


def test_decide_saves_a_decision_of_each_picture(store: LocalStore, tmp_path: Path) -> None:
    ids = [GOOD["image_id"], CANDIDATE["image_id"]]
    said = CliRunner().invoke(cli, ["decide", "reject", *ids, "--output", str(tmp_path), "--by", "Ann"])
    assert said.exit_code == 0
    assert [line.split(":")[0] for line in said.output.splitlines()] == [
        f"reject {row['image_id']} of {row['sku']}, image 0" for row in (GOOD, CANDIDATE)
    ]
    assert live(store) == {}


def test_decide_names_an_unknown_picture(store: LocalStore, tmp_path: Path) -> None:
    given = ["decide", "approve", "0" * 20, "--output", str(tmp_path), "--by", "Ann"]
    with pytest.raises(BadInput, match=f"{'0' * 20}: no finished run"):
        CliRunner().invoke(cli, given, catch_exceptions=False)
    assert list(live(store)) == [("sku-0000", 0)]
