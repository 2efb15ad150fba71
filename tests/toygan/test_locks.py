"""A lock is waited for with a word, and not for ever."""

import fcntl
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toygan import locks
from toygan.errors import StoreUnavailable
from toygan.locks import wait_for_lock
from toygan.storage.local import LocalStore


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def opened(lock: Path) -> int:
    return os.open(lock, os.O_RDWR | os.O_CREAT)


def test_a_free_lock_is_taken_and_marked(lock: Path) -> None:
    descriptor = opened(lock)
    os.utime(lock, (1, 1))
    wait_for_lock(descriptor, "it")
    assert lock.stat().st_mtime > 1
    other = opened(lock)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    wait_for_lock(other, "it", patience_s=0)
    os.close(other)


def test_a_holder_that_does_not_move_is_named(
    lock: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "SILENT_S", 0.1)
    descriptor, other = opened(lock), opened(lock)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(TimeoutError, match=r"lock is held by .*run again"),
    ):
        wait_for_lock(other, "the lock", shared=True, patience_s=2)
    assert [record.getMessage()[:20] for record in caplog.records] == ["waiting for the lock"]
    for each in (descriptor, other):
        os.close(each)


def test_a_lock_that_goes_from_hand_to_hand_is_waited_for(lock: Path) -> None:
    holder, waiter = opened(lock), opened(lock)
    fcntl.flock(holder, fcntl.LOCK_EX)
    stop = threading.Event()

    def hand_on() -> None:
        """As many other holders do, one after the other."""
        for _ in range(20):
            os.utime(holder)
            stop.wait(0.2)
        os.close(holder)

    thread = threading.Thread(target=hand_on)
    thread.start()
    wait_for_lock(waiter, "it", patience_s=2.5)
    thread.join()
    os.close(waiter)


@pytest.mark.service
def test_a_stopped_process_that_holds_a_store_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if("current.parquet", b"1", None)
    code = "import fcntl,sys,time; f=open(sys.argv[1]); fcntl.flock(f,2); print(1,flush=True); time.sleep(99)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".tmp" / ".put" / "lock")], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreUnavailable, match=r"lock of the store .* held by (the|another) process"):
            LocalStore(tmp_path, lock_patience_s=0.3).put_if("x", b"1", None)
    finally:
        holder.kill()
        holder.communicate()
    store.put_if("x", b"1", None)
