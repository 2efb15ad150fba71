"""The command `toygan` in this process, which saves its imports."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli import main


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


class Command:
    """Calls what the console script calls: toygan_here("verify", folder)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> Outcome:
        self._capfd.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["toygan", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        said = self._capfd.readouterr()
        if isinstance(code, str):  # the interpreter prints it and ends with 1
            return Outcome(code=1, out=said.out, err=f"{said.err}{code}\n")
        assert isinstance(code, int)
        return Outcome(code=code, out=said.out, err=said.err)
