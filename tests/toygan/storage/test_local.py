"""What can go wrong in a folder: links, things in the way, full disks, killed writers, loss of the folder."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toygan.errors import AccessRefused, BadInput, ObjectNotFound, StoreConfigError, StoreUnavailable
from toygan.storage.local import LocalStore
from toygan.storage.memory import MemoryStore


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(code: str, *arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


leaf_keys = st.lists(st.sampled_from(["a", "b", "a-b", "a.b", "ä"]), min_size=0, max_size=3).map(
    lambda folders: "/".join([*folders, "leaf"])
)
operations = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), leaf_keys, st.binary(max_size=3)), max_size=12
)


@given(operations=operations, prefix=st.sampled_from(["", "a", "a/", "a-", "a/b", "leaf", "ä/", "x"]))
@settings(max_examples=60, deadline=None)
def test_a_folder_behaves_as_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str, bytes]], prefix: str
) -> None:
    folder, model = LocalStore(tmp_path_factory.mktemp("store")), MemoryStore()
    for operation, key, data in operations:
        for store in (folder, model):
            if operation == "put":
                store.put(key, data)
            else:
                store.delete(key)
    assert list(folder.list(prefix)) == list(model.list(prefix))
    assert all(folder.get(info.key) == model.get(info.key) for info in model.list())


def test_delete_leaves_no_empty_folders_and_no_wider_damage(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.put("images/cars/a/1.png", b"1")
    store.put("images/cars/b/1.png", b"1")
    store.delete("images/cars/a/1.png")
    store.delete("images/cars")
    assert names_in(tmp_path / "store" / "images" / "cars") == ["b"]
    store.delete("images/cars/b/1.png")
    assert names_in(tmp_path / "store") == [".tmp"]


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def come_and_go(worker: int) -> None:
        key = f"images/cars/sku/{worker}.png"
        for turn in range(60):
            store.put(key, bytes([turn]))
            assert store.get(key) == bytes([turn])
            store.delete(key)
            assert not store.exists(key)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(come_and_go, range(6)))
    assert list(store.list()) == []


@pytest.fixture
def linked(tmp_path: Path) -> LocalStore:
    """A store with links that lead out of it: to a folder, to a file and to nothing."""
    outside, root = tmp_path / "outside", tmp_path / "store"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "images").mkdir(parents=True)
    (root / "images" / "folder").symlink_to(outside)
    (root / "images" / "file").symlink_to(outside / "secret")
    (root / "images" / "dangling").symlink_to(outside / "new")
    return LocalStore(root)


def test_a_linked_folder_is_refused(linked: LocalStore, tmp_path: Path) -> None:
    calls = {
        "put": lambda: linked.put("images/folder/x/y", b"1"),
        "get": lambda: linked.get("images/folder/secret"),
        "exists": lambda: linked.exists("images/folder/secret"),
        "delete": lambda: linked.delete("images/folder/secret"),
        "list": lambda: list(linked.list("images/folder/")),
    }
    for call in calls.values():
        with pytest.raises(StoreConfigError, match="links inside a store are not followed"):
            call()
    assert files_below(tmp_path / "outside") == ["secret"]


def test_a_link_is_no_object(linked: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for key in ("images/file", "images/dangling"):
        assert not linked.exists(key)
        with pytest.raises(ObjectNotFound):
            linked.get(key)
    assert list(linked.list()) == []
    assert "links inside a store are not followed" in caplog.text


def test_a_put_replaces_a_link_and_not_what_it_leads_to(linked: LocalStore, tmp_path: Path) -> None:
    linked.put("images/file", b"mine")
    linked.put("images/dangling", b"mine too")
    assert (linked.get("images/file"), linked.get("images/dangling")) == (b"mine", b"mine too")
    assert (tmp_path / "outside" / "secret").read_text() == "secret"
    assert files_below(tmp_path / "outside") == ["secret"]


def test_deleting_a_link_keeps_what_it_leads_to(linked: LocalStore, tmp_path: Path) -> None:
    linked.delete("images/file")
    assert not (tmp_path / "store" / "images" / "file").is_symlink()
    assert files_below(tmp_path / "outside") == ["secret"]


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = LocalStore(tmp_path / "link")
    store.put("a/b", b"1")
    assert store.get("a/b") == (tmp_path / "real" / "a" / "b").read_bytes() == b"1"


def test_pipes_and_sockets_are_no_objects_and_block_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    store = LocalStore(tmp_path)
    assert not store.exists("pipe")
    assert list(store.list()) == []
    with pytest.raises(ObjectNotFound):
        store.get("pipe")


def test_names_that_are_no_keys_are_not_listed(tmp_path: Path) -> None:
    for name in (b"bad-\xff-bytes", b"line\nbreak", b"back\\slash"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"1")
    (tmp_path / "good").write_bytes(b"1")
    assert [info.key for info in LocalStore(tmp_path).list()] == ["good"]


def test_something_in_the_way_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    store.put("folder/b", b"1")
    for key in ("a/b", "folder"):
        with pytest.raises(StoreConfigError, match=f"{key}.*something else is in"):
            store.put(key, b"2")
    with pytest.raises(StoreConfigError, match="something else is in"):
        LocalStore(tmp_path / "a").put("x", b"1")
    assert files_below(tmp_path) == ["a", "folder/b"]


def test_the_store_keeps_its_own_folder_to_itself(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        LocalStore(tmp_path).put(".tmp/.put/x", b"1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_a_matter_of_configuration(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreConfigError, match="writable"):
            LocalStore(tmp_path).put("a", b"1")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_folder_that_cannot_be_read_ends_a_listing_unless_the_caller_takes_its_error(
    tmp_path: Path, mode: int
) -> None:
    store = LocalStore(tmp_path / "store")
    for key in ("a/1", "b/1", "b/2", "c/d/1", "e"):
        store.put(key, b"1")
    closed = [tmp_path / "store" / name for name in ("b", "c/d")]
    for folder in closed:
        folder.chmod(mode)
    refused: dict[str, AccessRefused] = {}
    try:
        for listing in (store.list, store.list_all):
            with pytest.raises(AccessRefused, match=r"\(b/.*make it readable for you"):
                list(listing())
        found = list(store.list_all(on_refused=refused.__setitem__))
        with pytest.raises(AccessRefused):
            list(store.list_all("b/", on_refused=refused.__setitem__))
    finally:
        for folder in closed:
            folder.chmod(0o700)
    assert [info.key for info in found] == ["a/1", "e"]
    assert list(refused) == ["b/", "c/d/"]


FILL = """
import sys
from pathlib import Path
from toygan.errors import StoreUnavailable
from toygan.storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
store.put("current.parquet", b"old")
try:
    store.put("current.parquet", b"n" * 1_000_000)
except StoreUnavailable as error:
    print(error)
print([(i.key, i.size) for i in store.list()], store.get("current.parquet"))
print(len(list((Path(sys.argv[1]) / ".tmp" / ".put").iterdir())), "left")
"""


def check_disk_full(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr
    message, objects, left = result.stdout.splitlines()
    assert "the disk is full" in message
    assert "current.parquet" in message
    assert objects == "[('current.parquet', 3)] b'old'"
    assert left == "0 left"


@pytest.mark.service
def test_a_file_over_the_limit_leaves_the_old_object_and_no_part(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    check_disk_full(run_python(limit + FILL, str(tmp_path)))


@pytest.mark.service
def test_a_full_disk_leaves_the_old_object_and_no_part(tmp_path: Path) -> None:
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    mount = f"mount -t tmpfs -o size=128k none {tmp_path} && "
    if (
        not shutil.which("unshare")
        or subprocess.run([*namespace, mount + "true"], capture_output=True).returncode
    ):
        pytest.skip("a small file system of one's own cannot be mounted here")
    check_disk_full(run_python(FILL, str(tmp_path), wrapper=(*namespace, mount + 'exec "$@"', "sh")))


WRITE_FOREVER = """
import sys
from pathlib import Path
from toygan.storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
while True:
    for letter in (b"a", b"b"):
        store.put("current.parquet", letter * 3_000_000)
        print("put", flush=True)
"""


@pytest.mark.service
def test_a_killed_writer_leaves_whole_objects(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for _ in range(4):
        command = [sys.executable, "-c", WRITE_FOREVER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"put\n"
            time.sleep(random.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        assert store.get("current.parquet") in (b"a" * 3_000_000, b"b" * 3_000_000)
        assert [info.key for info in store.list()] == ["current.parquet"]


def test_what_killed_writers_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    uploads = tmp_path / ".tmp" / ".put"
    uploads.mkdir(parents=True)
    for name, age_s in (("old", 7200), ("young", 60), ("lock", 7200)):
        (uploads / name).write_bytes(b"part")
        os.utime(uploads / name, (time.time() - age_s,) * 2)
    store = LocalStore(tmp_path)
    assert list(store.list(".tmp/")) == []
    store.put("a", b"1")
    # The lock belongs to all processes: with another file in its place two of them could hold it.
    assert names_in(uploads) == ["lock", "young"]


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.put("images/a", b"1")
    shutil.rmtree(tmp_path / "store")
    assert list(store.list()) == []
    store.put("images/a", b"2")
    assert store.get("images/a") == b"2"


def test_an_error_of_the_disk_is_worth_another_try() -> None:
    with pytest.raises(StoreUnavailable, match="/proc"):
        LocalStore(Path("/proc/toygan")).put("a", b"1")


def test_a_commit_object_is_written_after_what_it_refers_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power cannot be staged here, so the order of the calls that guard against it is watched."""
    calls: list[str] = []

    def watch(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def watched(*arguments: object) -> object:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(owner, name, watched)

    store = LocalStore(tmp_path)
    for key in ("images/a", "metadata/a"):
        store.put(key, b"makes the folders")
    watch(os, "sync")
    watch(os, "fsync")
    watch(Path, "replace")
    store.put("images/cars/sku/1.png", b"1")
    store.put("review/run=1/2.png", b"2")
    assert calls == ["replace", "replace"]
    calls.clear()
    store.put("metadata/run=1/part-00000.parquet", b"3")
    assert calls == ["fsync", "sync", "replace", "fsync"]
    calls.clear()
    store.put("current.parquet", b"4")
    assert calls == ["fsync", "replace", "fsync"]
