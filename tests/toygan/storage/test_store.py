"""open_store: which URI leads where."""

import os
from pathlib import Path

import pytest

from toygan.errors import StoreConfigError
from toygan.storage.local import LocalStore
from toygan.storage.open_store import open_store


def test_plain_paths_and_file_uris_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").mkdir()
    for uri in (
        "a b",
        "./a b",
        tmp_path / "a b",
        f"file://{tmp_path}/a%20b",
        f"FILE://localhost{tmp_path}/a b",
    ):
        store = open_store(uri)
        assert isinstance(store, LocalStore)
        assert store.uri == str(tmp_path / "a b")


def test_opening_writes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new")
    assert list(store.list()) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "empty"),
        ("s3://", "bucket"),
        ("s3:///prefix", "bucket"),
        ("s3://my bucket/x", "bucket"),
        ("s3://bucket/a/../b", r"\.\."),
        ("gs://bucket/x", "gs"),
        ("https://example.org/x", "https"),
        ("file://otherhost/x", "file URI"),
        ("file://relative", "file URI"),
        ("file://[x/y", "file URI"),
        ("memory://", "name"),
        ("~nobody-of-this-name/x", "give the whole path"),
    ],
)
def test_other_uris_are_refused_with_a_remedy(uri: str, message: str) -> None:
    with pytest.raises(StoreConfigError, match=message):
        open_store(uri)


def test_a_bucket_is_opened_without_a_server() -> None:
    assert open_store("s3://bucket").uri == "s3://bucket"
    assert open_store("S3://bucket/a/b/").uri == "s3://bucket/a/b"


def test_memory_stores_are_shared_by_name() -> None:
    open_store("memory://shared-one").put("a", b"1")
    assert open_store("memory://shared-one").get("a") == b"1"
    assert not open_store("memory://shared-two").exists("a")


@pytest.mark.parametrize("region", [None, "us-east-1", "eu-west-1", "eu-central-1"])
def test_links_are_signed_by_version_4_in_every_region(
    region: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most servers and newer regions refuse version 2."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    if region:
        monkeypatch.setenv("AWS_REGION", region)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in open_store("s3://bucket").presigned("a.jpg", 60)
