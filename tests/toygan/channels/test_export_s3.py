"""Exports into a bucket of a real server."""

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_proxy import Fault, faulty_proxy
from tests.servers import S3Server, fresh_bucket
from tests.toygan.channels.shop import Article, put_shop, toy
from toygan.channels.export import ExportRequest, export
from toygan.errors import BadInput
from toygan.storage import s3
from toygan.storage.local import LocalStore
from toygan.storage.open_store import open_store

pytestmark = pytest.mark.service

PICTURES = 40
LONGEST_S = 300


@pytest.fixture
def shop(tmp_path: Path) -> str:
    store = LocalStore(tmp_path / "store")
    put_shop(
        store, [Article(sku=f"S-{number}", pixels=toy(f"#{number:02X}50C8")) for number in range(PICTURES)]
    )
    return store.uri


def content(uri: str) -> dict[str, bytes]:
    place = open_store(uri)
    return {info.key: place.get(info.key) for info in place.list()}


def test_a_second_export_to_a_bucket_uploads_nothing(
    shop: str, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[int] = []
    make_client = s3._make_client

    def count(params: Mapping[str, Any], model: Any, **_: object) -> None:
        if model.name not in ("GetObject", "HeadObject", "HeadBucket", "ListObjectsV2"):
            uploaded.append(len(params["body"] or b"") if hasattr(params["body"], "__len__") else 1)

    def counting() -> Any:
        client = make_client()
        client.meta.events.register("before-call.s3", count)
        return client

    monkeypatch.setattr(s3, "_make_client", counting)
    request = ExportRequest(
        channel="google", output=shop, to=f"{s3_uri}/google", base_url="https://a.example"
    )
    first = export(request)
    assert first.made == PICTURES
    assert len(uploaded) > PICTURES
    uploaded.clear()
    assert export(request).made == 0
    assert uploaded == []


def test_a_killed_export_to_a_bucket_that_runs_again_ends_the_same(
    shop: str, s3_uri: str, rclone: S3Server
) -> None:
    """The bucket answers no more once some pictures are there, so the export is killed before its end."""
    request = ExportRequest(channel="google", output=shop, to=f"{s3_uri}/whole")
    export(request)
    command = ["export", "--channel", "google", "--output", shop, "--to", f"{s3_uri}/killed"]
    place, is_killed, has_some = open_store(f"{s3_uri}/killed"), threading.Event(), threading.Event()

    def fault() -> Fault:
        if len(list(place.list("pictures/"))) >= 3:
            has_some.set()
            is_killed.wait(LONGEST_S)
            return "drop request"
        return "none"

    with faulty_proxy(rclone, fault) as network:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *command], env=os.environ | network.environment()
        )
        try:
            assert has_some.wait(LONGEST_S)
        finally:
            process.kill()
            process.wait()
            is_killed.set()
    killed_at = len(list(place.list("pictures/")))
    assert 3 <= killed_at < PICTURES
    export(ExportRequest(channel="google", output=shop, to=f"{s3_uri}/killed"))
    assert content(f"{s3_uri}/killed") == content(f"{s3_uri}/whole")


def test_a_signed_link_of_a_feed_can_be_read_by_anybody(shop: str, s3_uri: str) -> None:
    place = f"{s3_uri}/google"
    summary = export(ExportRequest(channel="google", output=shop, to=place, presigned_days=7))
    assert "AWS_SESSION_TOKEN" not in summary.text()
    feed = open_store(place).get("feeds/merchant.tsv").decode()
    row = feed.splitlines()[1].split("\t")
    with urllib.request.urlopen(row[1]) as answer:
        data = answer.read()
    assert data in content(f"{place}/pictures/brick/{row[0]}").values()


def test_links_signed_with_temporary_credentials_are_named(
    shop: str, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every such link holds the session's token, which may be too long for a feed."""
    place = fresh_bucket(moto, monkeypatch)
    request = ExportRequest(channel="google", output=shop, to=place, presigned_days=7)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token" * 50)
    assert "end with the temporary credentials that signed them" in export(request).text()
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token" * 400)
    with pytest.raises(BadInput, match="over 2000 characters; use keys without AWS_SESSION_TOKEN"):
        export(request)
