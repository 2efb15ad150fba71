"""The command `toygan models push`."""

from pathlib import Path

from tests.flows.command import Command
from tests.models import tiny_model


def test_a_bundled_model_is_written_with_its_card(tmp_path: Path, toygan_here: Command) -> None:
    outcome = toygan_here("models", "push", "toybricks-layout128", tmp_path / "to", "--license", "apache-2.0")
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "to" / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: toygan\nlicense: apache-2.0\n")
    assert "# toybricks-layout128" in text
    assert "](../" not in text


def test_a_name_is_no_place_to_push_to(tmp_path: Path, toygan_here: Command) -> None:
    folder = tiny_model().write(tmp_path / "tiny")
    outcome = toygan_here("models", "push", folder, "toys")
    assert outcome.code == 2
    assert "toys: give hf:OWNER/NAME, or a folder as ./FOLDER" in outcome.err
