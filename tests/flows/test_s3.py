"""The main job into a bucket of a real server, on good days and on bad ones."""

import random
from pathlib import Path

import pytest

from tests.faulty_proxy import Fault, faulty_proxy
from tests.flows.catalogs import products
from tests.flows.conftest import Toygan
from tests.models import tiny_model
from tests.servers import S3Server
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

RUN_ID = "nightly"


def content(store: ObjectStore) -> dict[str, bytes]:
    """The pictures and the live table."""
    keys = [found.key for found in store.list("images/")]
    return {key: store.get(key) for key in [*keys, "current.parquet"]}


def test_a_bucket_behind_a_bad_network_gets_the_same_pictures_as_a_folder(
    tmp_path: Path, toygan: Toygan, rclone: S3Server, s3_uri: str
) -> None:
    """One request in ten fails: answered with 503, or dropped before or after the server did its work."""
    model = tiny_model().write(tmp_path / "tiny")
    catalog = products(tmp_path / "catalog.parquet", 120)
    arguments = ["generate", "--catalog", catalog, "--model", model, "--run-id", RUN_ID]
    result = toygan(*arguments, "--output", tmp_path / "folder")
    assert result.returncode == 0, result.stderr

    chance, faults = random.Random(7), 0

    def fault() -> Fault:
        nonlocal faults
        if chance.random() >= 0.1:
            return "none"
        faults += 1
        return chance.choice(["503", "drop request", "drop answer", "cut answer"])

    with faulty_proxy(rclone, fault) as network:
        result = toygan(*arguments, "--output", f"{s3_uri}/shop", **network.environment())
    assert result.returncode == 0, result.stderr
    assert faults > 10

    bucket = open_store(f"{s3_uri}/shop")
    assert verify(bucket).problems == ()
    assert content(bucket) == content(open_store(tmp_path / "folder"))
    command = toygan("verify", f"{s3_uri}/shop", **rclone.environment())
    assert command.returncode == 0, command.stderr
    assert "is whole" in command.stdout


@pytest.mark.parametrize(
    ("changes", "bucket", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, None, "credentials"),
        ({}, "s3://no-such-bucket", "bucket"),
    ],
)
def test_a_bucket_that_cannot_be_used_stops_the_run_before_it_starts(
    tmp_path: Path,
    toygan: Toygan,
    rclone: S3Server,
    s3_uri: str,
    changes: dict[str, str],
    bucket: str | None,
    message: str,
) -> None:
    catalog = products(tmp_path / "catalog.parquet", 3)
    model = tiny_model().write(tmp_path / "tiny")
    arguments = ["--catalog", catalog, "--model", model, "--output", bucket or s3_uri]
    result = toygan("generate", *arguments, **{**rclone.environment(), **changes})
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "wrong" not in result.stderr.replace("wrong credentials", "")
