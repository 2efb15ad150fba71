"""Errors of the machine end a command with one line that names the remedy."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from flows.exits import FAILED, one_line


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "change its permissions, or set HOME and TMPDIR"),
        (errno.EROFS, "change its permissions, or set HOME and TMPDIR"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(
    number: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, one_line():
        raise OSError(number, os.strerror(number), "/a/file")
    printed = capsys.readouterr().err
    assert ended.value.code == FAILED
    assert printed.startswith("toygan: /a/file: ")
    assert said in printed
    assert printed.count("\n") == 1


def test_a_machine_without_a_temporary_folder_gets_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    with pytest.raises(SystemExit), one_line():
        tempfile.TemporaryDirectory()
    assert "set TMPDIR to a folder that can be written" in capsys.readouterr().err


def test_any_other_error_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="Is a directory"), one_line():
        raise IsADirectoryError(errno.EISDIR, "Is a directory", "/a")
