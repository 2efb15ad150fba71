"""Many who change one object at the same time: nothing that one of them did is lost."""

import errno
import fcntl
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.faulty_proxy import Fault, faulty_proxy
from tests.servers import S3Server, fresh_bucket
from toygan.errors import StoreUnavailable
from toygan.storage import update as update_module
from toygan.storage.local import LocalStore
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore
from toygan.storage.update import update

KEY = "current.parquet"
TEXT = "text/plain"

HAMMER = """
import sys
from toygan.storage.open_store import open_store
from toygan.storage.update import update

uri, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(uri)
store.exists("x")
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    line = f"{name} {number}\\n".encode()
    update(store, "current.parquet", lambda before: (before or b"") + line, content_type="text/plain")
"""


def note(line: bytes) -> Callable[[bytes | None], bytes]:
    """A change that adds a line, if it is not there yet."""
    return lambda before: before or b"" if line in (before or b"") else (before or b"") + line


def start_hammer(uri: str, name: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, uri, name, str(count)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def let_go(hammers: "list[subprocess.Popen[str]]") -> None:
    """All at once."""
    for hammer in hammers:
        assert hammer.stdout is not None
        assert hammer.stdout.readline() == "ready\n"
    for hammer in hammers:
        assert hammer.stdin is not None
        hammer.stdin.write("\n")
        hammer.stdin.flush()


@pytest.fixture(params=["folder", "moto"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stores that several processes can use, with conditional writes."""
    if request.param == "folder":
        return str(tmp_path / "store")
    return fresh_bucket(request.getfixturevalue("moto"), monkeypatch)


@pytest.mark.service
def test_processes_that_change_one_object_lose_nothing(uri: str) -> None:
    hammers = [start_hammer(uri, name, 20) for name in ("a", "b", "c")]
    let_go(hammers)
    assert [hammer.wait(300) for hammer in hammers] == [0, 0, 0]
    lines = open_store(uri).get(KEY).decode().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "abc" for number in range(20))
    assert len({line[0] for line in lines[:30]}) > 1, "they did not run at the same time"


def test_threads_that_change_one_object_lose_nothing() -> None:
    store = MemoryStore()

    def change(number: int) -> None:
        update(store, KEY, lambda before: (before or b"") + bytes([number]), content_type=TEXT)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(100)))
    assert sorted(store.get(KEY)) == list(range(100))


@pytest.mark.service
def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    hammer = start_hammer(str(tmp_path), "a", 10**6)
    let_go([hammer])
    while not store.exists(KEY):
        assert hammer.poll() is None
    hammer.send_signal(signal.SIGKILL)
    hammer.wait()
    update(store, KEY, lambda before: b"mine", content_type=TEXT)
    assert store.get(KEY) == b"mine"


class Interloper(MemoryStore):
    """A store in which somebody else changes the object after each of the first reads."""

    def __init__(self, lines: list[bytes]) -> None:
        super().__init__()
        self.lines = lines

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        try:
            return super().get_versioned(key)
        finally:
            if self.lines:
                self.put(key, note(self.lines.pop(0))(self.get(key) if self.exists(key) else None))


def test_a_change_is_made_again_on_what_somebody_else_made_meanwhile() -> None:
    store, seen = Interloper([b"theirs 1\n", b"theirs 2\n"]), []

    def change(before: bytes | None) -> bytes:
        seen.append(before)
        return note(b"mine\n")(before)

    update(store, KEY, change, content_type=TEXT)
    assert seen == [None, b"theirs 1\n", b"theirs 1\ntheirs 2\n"]
    assert store.get(KEY) == b"theirs 1\ntheirs 2\nmine\n"


def test_nothing_is_written_where_nothing_changes() -> None:
    class ReadOnly(MemoryStore):
        def put_if(self, *args: object, **options: object) -> str:
            raise AssertionError("written")

    store = ReadOnly()
    update(store, KEY, lambda before: None, content_type=TEXT)
    assert not store.exists(KEY)
    store.put(KEY, b"there")
    update(store, KEY, lambda before: b"there", content_type=TEXT)
    update(store, KEY, lambda before: None, content_type=TEXT)
    assert store.get(KEY) == b"there"


class CountsReads(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        self.reads += 1
        return super().get_versioned(key)


def test_a_known_object_spares_the_reading_of_it() -> None:
    store = CountsReads()
    first = update(store, KEY, note(b"one\n"), content_type=TEXT)
    second = update(store, KEY, note(b"two\n"), content_type=TEXT, known=first)
    assert (first.content, second.content, store.get(KEY)) == (b"one\n", b"one\ntwo\n", b"one\ntwo\n")
    assert store.reads == 1  # which found no object


def test_a_known_object_that_has_changed_is_read_again() -> None:
    store = CountsReads()
    known = update(store, KEY, note(b"one\n"), content_type=TEXT)
    update(store, KEY, note(b"two\n"), content_type=TEXT)
    assert update(store, KEY, note(b"three\n"), content_type=TEXT, known=known).content == store.get(KEY)
    assert store.get(KEY) == b"one\ntwo\nthree\n"
    # A change that seems to be there already is compared with what is there now.
    store.put(KEY, b"another\n")
    update(store, KEY, lambda before: known.content, content_type=TEXT, known=known)
    assert store.get(KEY) == known.content


def test_what_a_change_raises_ends_it() -> None:
    store = MemoryStore()
    with pytest.raises(ZeroDivisionError):
        update(store, KEY, lambda before: bytes(1 // 0), content_type=TEXT)
    assert not store.exists(KEY)


def test_it_gives_up_where_others_are_always_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_module, "_ATTEMPTS", 5)
    store = Interloper([b"%d\n" % number for number in range(9)])
    with pytest.raises(StoreUnavailable, match=r"other processes kept changing current\.parquet"):
        update(store, KEY, note(b"mine\n"), content_type=TEXT)
    assert b"mine" not in store.get(KEY)


@pytest.mark.parametrize("lost", ["drop answer", "drop request", "503"])
def test_a_lost_answer_neither_loses_nor_doubles_a_change(
    lost: Fault, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try of a put that was carried out meets the first one's object."""
    uri = fresh_bucket(moto, monkeypatch)
    requests = itertools.count()
    with faulty_proxy(moto, lambda: lost if next(requests) % 5 == 2 else "none") as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        for number in range(8):
            update(open_store(uri), KEY, note(b"line %d\n" % number), content_type=TEXT)
    assert next(requests) > 30
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint)
    assert open_store(uri).get(KEY) == b"".join(b"line %d\n" % number for number in range(8))


def test_a_server_that_says_it_has_no_conditions_is_believed(
    moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = fresh_bucket(moto, monkeypatch)
    requests = itertools.count()
    with faulty_proxy(moto, lambda: "501" if next(requests) == 1 else "none") as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", network.endpoint)
        store = open_store(uri)
        assert not store.has_conditional_writes
        assert list(store.list(".tmp/")) == []
        update(store, KEY, note(b"mine\n"), content_type=TEXT)
        assert store.get(KEY) == b"mine\n"


def test_a_file_system_without_locks_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    caplog.set_level("INFO")
    store: ObjectStore = LocalStore(tmp_path)
    assert not store.has_conditional_writes
    update(store, KEY, note(b"mine\n"), content_type=TEXT)
    assert store.get(KEY) == b"mine\n"
    assert "two processes must not change current.parquet at the same time" in caplog.text
