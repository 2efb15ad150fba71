"""The documents: links lead somewhere, commands and options exist, and the README's Python example works."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import dropwhile, groupby
from pathlib import Path
from typing import Any

import click
import pytest

from flows.cli import cli

REPOSITORY = Path(__file__).parents[1]
_LEFT_OUT = {".git", ".venv", "node_modules"}
DOCUMENTS = [
    path
    for path in sorted(REPOSITORY.rglob("*.md"))
    if not _LEFT_OUT & set(path.relative_to(REPOSITORY).parts) and "-demo" not in str(path)
]
README = REPOSITORY / "README.md"


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in paths]


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `toygan` and `python` command in the shell blocks of a document."""
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.S):
        uncommented = re.sub(r"(^|\s)#.*$", "", block.replace("\\\n", " "), flags=re.M)
        lexer = shlex.shlex(uncommented, posix=True, punctuation_chars="\n;&|")
        lexer.whitespace, lexer.whitespace_split = " \t", True
        for is_end, words in groupby(lexer, lambda word: not word.strip("\n;&|")):
            command = list(dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=.*", word), words))
            if not is_end and command and Path(command[0]).name in ("toygan", "python", "python3"):
                yield [Path(command[0]).name, *command[1:]]


def known_options(words: list[str]) -> set[str]:
    """The options of the `toygan` command that `words` call; fails for an unknown command."""
    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group):
            break
        assert word in command.commands, f"toygan has no command {word!r}: {' '.join(words)}"
        command = command.commands[word]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_the_readme_has_at_most_8000_characters() -> None:
    assert len(README.read_text()) <= 8_000


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file) if file else document
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text()), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_command_of_a_document_exists(document: Path) -> None:
    for program, *words in commands(document.read_text()):
        if program != "toygan":
            if words[0] == "-m" and words[1].partition(".")[0] in ("flows", "toygan", "tests"):
                assert find_spec(words[1]), words
            continue
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options - {"--help"} <= known_options(words), words


def test_the_commands_of_the_readme_are_found() -> None:
    found = list(commands(README.read_text()))
    assert ["toygan", "catalog", "check", "catalog.csv"] in found
    assert ["python3", "-m", "venv", ".venv"] in found
    assert len(found) > 15


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["picture"].pixels.shape == (512, 512, 3)
    assert capsys.readouterr().out
