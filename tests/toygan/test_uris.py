"""URIs of this machine, users and passwords in URIs, and the threads that read from URIs."""

from pathlib import Path

import pytest

from toygan.errors import StoreConfigError
from toygan.parallel import REMOTE_READS, reading_pool
from toygan.planning.catalog import check_catalog
from toygan.registry.models import resolve
from toygan.storage.open_store import open_store
from toygan.uris import local_path, redacted, refuse_credentials


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/prefix",
        "shop/a@b",
        "/srv/a@b",
        "s3://bucket/a@b",
        "file:///a@b",
        "toybricks@champion",
        "",
    ],
)
def test_what_holds_none_passes(uri: str) -> None:
    assert refuse_credentials(uri) == uri
    assert redacted(uri) == uri


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:planted@bucket/x", "s3://***@bucket/x"),
        ("http://planted@127.0.0.1:9000", "http://***@127.0.0.1:9000"),
        ("S3://a:planted@b@c", "S3://***@c"),
    ],
)
def test_what_holds_some_is_refused_and_not_repeated(uri: str, shown: str) -> None:
    with pytest.raises(StoreConfigError) as refused:
        refuse_credentials(uri)
    assert str(refused.value).startswith(f"{shown}: ")
    assert "planted" not in str(refused.value)
    assert redacted(f"could not connect to {uri}.") == f"could not connect to {shown}."


@pytest.mark.parametrize("opened", [open_store, check_catalog, lambda uri: resolve(uri, None)])
def test_every_door_refuses_it(opened: object) -> None:
    with pytest.raises(StoreConfigError, match=r"\*\*\*@bucket") as refused:
        opened("s3://key:planted@bucket/x")  # type: ignore[operator]
    assert "planted" not in str(refused.value)


def test_an_endpoint_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://key:planted@127.0.0.1:9")
    with pytest.raises(StoreConfigError, match=r"http://\*\*\*@127\.0\.0\.1:9") as refused:
        open_store("s3://bucket").exists("key")
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("pictures", "pictures"),
        ("/shop/a:b", "/shop/a:b"),
        ("file:///shop/a%20b", "/shop/a b"),
        ("FILE:///shop", "/shop"),
        ("s3://bucket/shop", None),
        ("https://host/shop", None),
    ],
)
def test_what_is_on_this_machine(uri: str, path: str | None) -> None:
    assert local_path(uri) == (None if path is None else Path(path))


def test_only_readers_of_this_machines_files_are_as_many_as_its_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("toygan.parallel.usable_cores", lambda: 3)
    for uris, threads in [
        (("catalog.csv", "file:///shop"), 3),
        (("catalog.csv", "s3://bucket"), REMOTE_READS),
        (("s3://bucket/catalog.csv", "/shop"), REMOTE_READS),
    ]:
        with reading_pool(*uris) as pool:
            assert pool._max_workers == threads


def test_a_file_uri_that_cannot_be_split_is_refused() -> None:
    for read in (local_path, check_catalog):
        with pytest.raises(StoreConfigError, match="write it as file:///absolute/path"):
            read("file://[x/y")
