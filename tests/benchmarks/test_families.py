"""What makes the comparison of the families fair and resumable; the comparison itself takes hours."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.benchmarks.families import evaluation_of, is_trained, markdown, overview, rows_of
from tests.benchmarks.one_family import (
    GAP,
    GRID_COLUMNS,
    HEADING_HEIGHT,
    LABEL_WIDTH,
    Ledger,
    Settings,
    alone,
)


def settings(output: Path, cpu_minutes: float = 20.0) -> Settings:
    return Settings(
        photos="photos", output=output, cpu_minutes=cpu_minutes, resolution=64, threads=1, pictures=1000
    )


def figures(**changes: Any) -> dict[str, Any]:
    names = ("precision", "recall", "density", "coverage", "category_accuracy")
    return dict.fromkeys(names, 0.5) | {
        "pictures": 1000,
        "kid": {"value": 0.0125, "error": 0.0004},
        "colour_delta_e": 7.25,
        **changes,
    }


def evaluated(output: Path, family: str, checkpoint: str, newest: str) -> None:
    (output / family / "training" / "checkpoints" / newest).mkdir(parents=True)
    found = {
        "overall": {"pictures": figures(), "photos": figures(colour_delta_e=5.0)},
        "training_photos": figures(kid={"value": -0.0001, "error": 0.0002}),
        "near_copies": 0.0,
        "feature_network": "lite0",
        "checkpoint": checkpoint,
    }
    (output / family / "evaluation.json").write_text(json.dumps(found))


def test_a_resumed_training_counts_what_its_checkpoint_cost(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cpu.json")
    assert ledger.spent_s(None) == 0
    ledger.note(3.0, None)
    ledger.note(7.0, "0000000064")
    ledger.note(12.0, "0000000064")
    # Killed after 12 s, the work since the checkpoint is lost and made again.
    assert Ledger(tmp_path / "cpu.json").spent_s("0000000064") == 7.0
    # Killed while the next checkpoint was written: all of it is in there.
    assert Ledger(tmp_path / "cpu.json").spent_s("0000000128") == 12.0


def test_the_ledger_is_written_now_and_then_and_when_asked(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cpu.json")
    ledger.note(1.0, None)
    assert not (tmp_path / "cpu.json").exists()
    ledger.note(1.5, None, now=True)
    assert json.loads((tmp_path / "cpu.json").read_bytes())["cpu_s"] == 1.5


def test_a_family_is_trained_once_its_minutes_are_spent(tmp_path: Path) -> None:
    (tmp_path / "mlp" / "training" / "checkpoints" / "0000000064").mkdir(parents=True)
    assert not is_trained("dcgan", settings(tmp_path))
    Ledger(tmp_path / "mlp" / "cpu.json").note(1200.0, "0000000064")
    assert is_trained("mlp", settings(tmp_path))
    assert not is_trained("mlp", settings(tmp_path, cpu_minutes=20.1))


def test_an_evaluation_of_an_older_checkpoint_does_not_count(tmp_path: Path) -> None:
    evaluated(tmp_path, "mlp", checkpoint="0000000064", newest="0000000128")
    assert evaluation_of("mlp", settings(tmp_path)) is None
    assert evaluation_of("dcgan", settings(tmp_path)) is None
    assert rows_of(["mlp", "dcgan"], settings(tmp_path)) == []


def test_the_table_worked_by_hand(tmp_path: Path) -> None:
    evaluated(tmp_path, "mlp", checkpoint="0000120000", newest="0000120000")
    Ledger(tmp_path / "mlp" / "cpu.json").note(1200.0, "0000120000")
    rows = rows_of(["dcgan", "mlp"], settings(tmp_path))
    assert [(row["family"], row["images_seen"], row["images_per_cpu_s"]) for row in rows] == [
        ("mlp", 120_000, 100.0)
    ]
    table = markdown(rows, settings(tmp_path)).splitlines()
    assert (
        table[2] == "| `mlp` | 120,000 | 100.0 | 12.5 ± 0.4 | 0.500 | 0.500 | 0.500 | 0.500 | 7.2 | 0.500 |"
    )
    assert table[3] == "| photos |  |  | -0.1 ± 0.2 | 0.500 | 0.500 | 0.500 | 0.500 | 5.0 | 0.500 |"
    assert table[5].startswith("20 minutes of CPU each, 1 thread(s), 64 pixels, 1,000 pictures")


def test_the_overview_shows_two_pictures_of_each_category(tmp_path: Path) -> None:
    """Grids of two categories whose pixels say what they are: photos (0, ...), drawn (family, ...)."""
    side = 64
    for family, shade in (("mlp", 100), ("dcgan", 200)):
        grid = Image.new("RGB", (LABEL_WIDTH + 2 * GRID_COLUMNS * side + GAP, HEADING_HEIGHT + 2 * side))
        for category in range(2):
            for column in range(2 * GRID_COLUMNS):
                is_drawn = column >= GRID_COLUMNS
                colour = (shade if is_drawn else 0, 100 * category, 20 * (column % GRID_COLUMNS))
                left = LABEL_WIDTH + column * side + GAP * is_drawn
                top = HEADING_HEIGHT + category * side
                grid.paste(colour, (left, top, left + side, top + side))
        grid.save(tmp_path / f"{family}.jpg", quality=100, subsampling=0)
    sheet = overview(["mlp", "dcgan"], settings(tmp_path))
    assert sheet.size == (LABEL_WIDTH + 4 * side, 3 * side)
    for row, shade in enumerate((0, 100, 200)):
        for column, rest in enumerate(((0, 0), (0, 20), (100, 0), (100, 20))):
            middle = (LABEL_WIDTH + column * side + side // 2, row * side + side // 2)
            found = sheet.getpixel(middle)
            assert found == pytest.approx((shade, *rest), abs=3)


def test_two_processes_do_not_train_into_one_folder(tmp_path: Path) -> None:
    with alone(tmp_path / "mlp" / "lock"):
        with pytest.raises(SystemExit, match="another process is at work"), alone(tmp_path / "mlp" / "lock"):
            pass
        with alone(tmp_path / "dcgan" / "lock"):
            pass
    with alone(tmp_path / "mlp" / "lock"):
        pass
