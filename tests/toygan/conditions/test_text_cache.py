import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from toygan.conditions import text_cache
from toygan.conditions.text_cache import Embedding, TextCache, default_folder

SIZE = 3


def embedding(number: float) -> Embedding:
    return np.array([number, 2, 3], dtype=np.float32)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "texts" / "encoder.sqlite"


def test_what_is_written_is_read_by_others(path: Path) -> None:
    cache = TextCache(path, size=SIZE)
    assert cache.read([key(1)]) == {}
    cache.write({key(1): embedding(0.1), key(2): embedding(0.2)})
    found = TextCache(path, size=SIZE).read([key(2), key(3)])
    assert list(found) == [key(2)]
    assert found[key(2)].dtype == np.float32
    assert found[key(2)].tobytes() == embedding(0.2).tobytes()


def test_what_is_known_stays(path: Path) -> None:
    cache = TextCache(path, size=SIZE)
    cache.write({key(1): embedding(1)})
    cache.write({key(1): embedding(5), key(2): embedding(2)})
    assert {name: found[0] for name, found in cache.read([key(1), key(2)]).items()} == {key(1): 1, key(2): 2}


def test_more_keys_than_sqlite_takes_at_once(path: Path) -> None:
    cache = TextCache(path, size=SIZE)
    written = {key(number): embedding(number) for number in range(2 * text_cache.AT_ONCE + 1)}
    cache.write(written)
    found = cache.read(list(written))
    assert all(found[name][0] == row[0] for name, row in written.items())


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _other_tables(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE embeddings (text TEXT)")
    connection.close()


def _other_sizes(path: Path) -> None:
    path.unlink()
    TextCache(path, size=SIZE + 1).write({key(7): np.zeros(SIZE + 1, dtype=np.float32)})


def _flipped_bit(path: Path) -> None:
    data, row = path.read_bytes(), embedding(7).tobytes()
    assert data.count(row) == 1
    path.write_bytes(data.replace(row, bytes([row[0] ^ 1]) + row[1:]))


@pytest.mark.parametrize("damage", [_garbage, _cut, _other_tables, _other_sizes, _flipped_bit])
def test_a_damaged_file_is_set_aside_and_made_anew(
    damage: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    TextCache(path, size=SIZE).write({key(number): embedding(number) for number in range(500)})
    damage(path)
    damaged = path.read_bytes()
    cache = TextCache(path, size=SIZE)
    assert cache.read([key(7)]) == {}
    assert path.with_name("encoder.sqlite.damaged").read_bytes() == damaged
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"the text cache {path} is damaged" in caplog.text
    cache.write({key(7): embedding(7)})
    assert TextCache(path, size=SIZE).read([key(7)])[key(7)].tobytes() == embedding(7).tobytes()
    assert len(caplog.records) == 1


def test_a_damaged_file_may_be_noticed_in_writing_and_by_many_at_once(path: Path) -> None:
    path.parent.mkdir()
    _garbage(path)
    start = threading.Barrier(8)

    def write(number: int) -> None:
        cache = TextCache(path, size=SIZE)
        start.wait()
        cache.write({key(number): embedding(number)})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(TextCache(path, size=SIZE).read([key(number) for number in range(8)])) == 8
    assert path.with_name("encoder.sqlite.damaged").read_bytes().startswith(b"no database")


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from toygan.conditions.text_cache import TextCache
cache = TextCache(Path(sys.argv[1]), size=3)
mine, others = int(sys.argv[2]), 0
for number in range(40):
    rows = {(1000 * who + number).to_bytes(32, "big"): who for who in (0, mine)}
    cache.write({key: np.array([who, number, 3], dtype=np.float32) for key, who in rows.items()})
    found = cache.read(list(rows))
    assert all(found[key].tolist() == [who, number, 3] for key, who in rows.items())
"""


@pytest.mark.service
def test_processes_write_at_the_same_time(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, str(who)], stderr=subprocess.PIPE, text=True)
        for who in range(1, 5)
    ]
    for writer in writers:
        assert (writer.communicate()[1], writer.returncode) == ("", 0)
    keys = [key(1000 * who + number) for who in range(5) for number in range(40)]
    assert len(TextCache(path, size=SIZE).read(keys)) == 200
    assert {each.name for each in path.parent.iterdir()} == {"encoder.sqlite", "encoder.sqlite.lock"}


def _below_a_file(path: Path) -> None:
    path.parent.write_text("in the way")


def _a_folder(path: Path) -> None:
    path.mkdir(parents=True)


@pytest.mark.parametrize("obstacle", [_below_a_file, _a_folder])
def test_without_a_usable_file_there_is_no_cache(
    obstacle: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obstacle(path)
    cache = TextCache(path, size=SIZE)
    cache.write({key(1): embedding(1)})
    assert cache.read([key(1)]) == {}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{path} cannot be used (" in caplog.text
    assert "texts are embedded without a cache" in caplog.text


def test_a_file_that_others_never_let_go_of_is_done_without(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(text_cache, "WAIT_S", 0.01)
    cache = TextCache(path, size=SIZE)
    cache.write({key(1): embedding(1)})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert cache.read([key(1)]) == {}
    assert "database is locked" in caplog.text
    other.close()
    assert len(TextCache(path, size=SIZE).read([key(1)])) == 1


def test_no_path_means_no_cache(caplog: pytest.LogCaptureFixture) -> None:
    cache = TextCache(None, size=SIZE)
    cache.write({key(1): embedding(1)})
    assert cache.read([key(1)]) == {}
    assert not caplog.records


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert default_folder() == tmp_path / "caches" / "toygan" / "texts"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unusable in ("", "relative/to/something"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert default_folder() == tmp_path / ".cache" / "toygan" / "texts"


def test_who_has_no_home_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert default_folder() is None
