"""Failures of a server: waits, messages to the user, and that nothing is lost or stored twice."""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest

from tests.faulty_proxy import Fault, faulty_proxy
from tests.servers import S3Server, free_port, fresh_bucket, rclone_server
from toygan.errors import AccessRefused, StoreConfigError, StoreUnavailable
from toygan.storage.open_store import open_store
from toygan.storage.s3_store import S3Store
from toygan.storage.store import ObjectStore

OPERATIONS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("a/b", b"1"),
    "get": lambda store: store.get("a/b"),
    "exists": lambda store: store.exists("a/b"),
    "list": lambda store: list(store.list()),
    "delete": lambda store: store.delete("a/b"),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


class Weather:
    """What befalls each request: for `bad_s` seconds from the first request one of `faults`, then none."""

    def __init__(self, faults: list[Fault], bad_s: float, share: float = 1.0) -> None:
        self._faults, self._bad_s, self._share = faults, bad_s, share
        self._random = random.Random(7)
        self._lock = threading.Lock()
        self._since: float | None = None
        self.hits = 0

    def __call__(self) -> Fault:
        with self._lock:
            now = time.monotonic()
            if self._since is None:
                self._since = now
            if now - self._since > self._bad_s or self._random.random() > self._share:
                return "none"
            self.hits += 1
            return self._random.choice(self._faults)


def through(proxy: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)


def fill_and_read_back(store: ObjectStore) -> dict[str, bytes]:
    """Put 60 objects from eight threads, some twice, and return what the same store reads back."""
    wanted = {f"images/cars/sku-{number}/a.webp": bytes([number]) * 5000 for number in range(60)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, wanted[key]), [*wanted, *list(wanted)[::7]]))
        read = dict(zip(wanted, pool.map(store.get, wanted), strict=True))
    assert read == wanted
    return wanted


@pytest.mark.parametrize(
    ("faults", "bad_s", "share"),
    [
        (["503"], 2.5, 1.0),
        (["drop request"], 2.5, 1.0),
        (["drop answer"], 1.5, 1.0),
        (["page"], 1.5, 1.0),
        (["503", "drop request", "drop answer", "cut answer", "page"], 60.0, 0.3),
    ],
    ids=["busy", "drops requests", "drops answers", "login pages", "a bit of everything"],
)
def test_a_bad_while_loses_nothing_and_doubles_nothing(
    faults: list[Fault],
    bad_s: float,
    share: float,
    rclone: S3Server,
    s3_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weather = Weather(faults, bad_s, share)
    with faulty_proxy(rclone, weather) as proxy:
        through(proxy, monkeypatch)
        wanted = fill_and_read_back(open_store(s3_uri))
        assert weather.hits > 0
    through(rclone, monkeypatch)
    direct = open_store(s3_uri)
    assert [(info.key, info.size) for info in direct.list()] == [(key, 5000) for key in sorted(wanted)]
    assert all(direct.get(key) == data for key, data in wanted.items())


@every_operation
def test_every_operation_waits_for_a_busy_server(
    operation: Callable[[ObjectStore], object], rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_uri).put("a/b", b"1")
    weather = Weather(["503", "drop request"], bad_s=0.8)
    with faulty_proxy(rclone, weather) as proxy:
        through(proxy, monkeypatch)
        operation(open_store(s3_uri))
    assert weather.hits > 0


@pytest.mark.parametrize("fault", ["cut answer", "page", "other body"])
def test_a_body_that_is_not_the_object_is_fetched_again(
    fault: Fault, rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(1).randbytes(500_000)
    open_store(s3_uri).put("a", data)
    weather = Weather([fault], bad_s=0.4)
    with faulty_proxy(rclone, weather) as proxy:
        through(proxy, monkeypatch)
        is_same = open_store(s3_uri).get("a") == data  # pytest would take minutes to show the difference
    assert is_same
    assert weather.hits > 0


@pytest.mark.service
def test_a_server_that_is_restarted_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    with rclone_server(folder, port=free_port()) as server:
        uri = fresh_bucket(server, monkeypatch)
        store = open_store(uri)
        store.put("before", b"1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fill_and_read_back, store)
        time.sleep(1.0)
        assert not waiting.done()
        with rclone_server(folder, port=server.port):
            wanted = waiting.result()
            assert [info.key for info in open_store(uri).list()] == ["before", *sorted(wanted)]


@every_operation
def test_a_server_that_stays_away_is_unavailable(
    operation: Callable[[ObjectStore], object], rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(rclone, lambda: "503") as proxy:
        through(proxy, monkeypatch)
        store = S3Store(s3_uri.removeprefix("s3://"), patience_s=0.5)
        with pytest.raises(StoreUnavailable, match=f"{proxy.endpoint}.*503"):
            operation(store)
    with pytest.raises(StoreUnavailable, match=proxy.endpoint):
        operation(store)


@every_operation
def test_an_address_of_web_pages_is_named_at_once(
    operation: Callable[[ObjectStore], object], rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(rclone, lambda: "page") as proxy:
        through(proxy, monkeypatch)
        store = S3Store(s3_uri.removeprefix("s3://"), patience_s=0.5)
        with pytest.raises(StoreConfigError, match=f"{proxy.endpoint} .* does not speak S3; check AWS_ENDP"):
            operation(store)


def test_many_calls_to_an_address_of_web_pages_wait_once_and_say_nothing(
    rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []

    def page() -> Fault:
        asked.append("")
        return "page"

    with faulty_proxy(rclone, page) as proxy:
        through(proxy, monkeypatch)
        store = S3Store(s3_uri.removeprefix("s3://"), patience_s=1.0)
        with pytest.raises(StoreConfigError):
            store.get("a")
        asked.clear()
        for operation in OPERATIONS.values():
            with pytest.raises(StoreConfigError, match="does not speak S3"):
                operation(store)
    # A HEAD request has no body to tell by, so the store then asks for a listing.
    assert len(asked) <= 2 * len(OPERATIONS)
    assert "trying again" not in caplog.text


def test_a_page_from_a_server_that_has_answered_before_may_pass(
    rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[Fault] = ["none"]
    with faulty_proxy(rclone, lambda: faults[0]) as proxy:
        through(proxy, monkeypatch)
        store = S3Store(s3_uri.removeprefix("s3://"), patience_s=0.5)
        store.put("a", b"1")
        faults[0] = "page"
        for operation in OPERATIONS.values():
            with pytest.raises(StoreUnavailable, match="web page"):
                operation(store)


def test_other_etags_than_md5_are_taken_at_their_word(
    rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_uri).put("a", b"11")
    open_store(s3_uri).put("b", b"22")
    with faulty_proxy(rclone, lambda: "other etag") as proxy:
        through(proxy, monkeypatch)
        store = open_store(s3_uri)
        assert [store.get("a"), store.get("b")] == [b"11", b"22"]


def test_new_credentials_are_read_when_the_old_ones_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with token_server(good_key="new") as endpoint:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        file = tmp_path / "credentials"
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        credentials = "[default]\naws_access_key_id = {}\naws_secret_access_key = x\n"
        file.write_text(credentials.format("old"))
        store = S3Store("shop", patience_s=1)
        with pytest.raises(StoreConfigError, match=r"credentials have expired .* get new ones"):
            store.get("a")
        file.write_text(credentials.format("new"))
        assert store.get("a") == b"1"


@contextmanager
def token_server(good_key: str) -> Iterator[str]:
    """Answers every GET with an object, and with ExpiredToken to any other key id; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

        def do_GET(self) -> None:
            is_good = f"Credential={good_key}/" in self.headers.get("Authorization", "")
            error = b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
            body = b"1" if is_good else error
            self.send_response(200 if is_good else 400)
            self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@every_operation
@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "unknown")],
    ids=["wrong secret", "unknown key id"],
)
def test_wrong_credentials_are_an_error_at_once(
    operation: Callable[[ObjectStore], object],
    name: str,
    value: str,
    s3_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreConfigError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as wrong:
        operation(open_store(s3_uri))
    assert not isinstance(wrong.value, AccessRefused)  # that would concern one object


def test_an_object_that_may_not_be_read_is_told_from_wrong_credentials(
    rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_uri)
    for key in ("open", "secret"):
        store.put(key, b"1")
    with faulty_proxy(rclone, lambda: "refused") as proxy:
        through(proxy, monkeypatch)
        store = open_store(s3_uri)
        for operation in (store.get, store.size, store.exists):
            with pytest.raises(AccessRefused, match="they must allow get"):
                operation("secret")
        assert store.get("open") == b"1"
        assert [info.key for info in store.list_all()] == ["open", "secret"]


@every_operation
def test_missing_credentials_are_an_error_at_once(
    operation: Callable[[ObjectStore], object], s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreConfigError, match="credentials; check AWS_ACCESS_KEY_ID"):
        operation(open_store(s3_uri))


@every_operation
@pytest.mark.parametrize("kind", ["rclone", "moto"])
def test_a_missing_bucket_is_named(
    operation: Callable[[ObjectStore], object],
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh_bucket(request.getfixturevalue(kind), monkeypatch)
    with pytest.raises(StoreConfigError, match="there is no bucket 'nowhere-to-be-found'"):
        operation(open_store("s3://nowhere-to-be-found/prefix"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", "AWS_ENDPOINT_URL"),
        ("AWS_PROFILE", "nobody", "nobody.*AWS_PROFILE"),
        ("AWS_REGION", "not a region", "region"),
        ("AWS_DEFAULT_REGION", "not a region", "region"),
    ],
)
def test_settings_that_cannot_be_are_named(
    name: str, value: str, message: str, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreConfigError, match=message):
        open_store(s3_uri).get("a")


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ("", "http://s3.test.invalid/shop/a"),
        ("s3 =\n  addressing_style = virtual\n", "http://shop.s3.test.invalid/a"),
    ],
    ids=["default", "the user's own"],
)
def test_other_servers_buckets_are_addressed_by_path_by_default(
    settings: str, address: str, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{settings}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.test.invalid")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(StoreUnavailable, match=address):
        S3Store("shop", patience_s=0).get("a")


def test_the_content_type_travels_with_the_object(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = fresh_bucket(moto, monkeypatch)
    open_store(uri).put("images/a.webp", b"1", content_type="image/webp")
    client = boto3.client("s3", region_name="us-east-1")
    assert client.head_object(Bucket=uri[5:], Key="images/a.webp")["ContentType"] == "image/webp"
