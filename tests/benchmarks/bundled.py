"""What the bundled models can do, as their model cards say it.

    python -m tests.benchmarks.bundled --photos URI --output DIR [--model NAME]...

`toygan train --recipe NAME` makes such a model; `--model ./FOLDER` takes one that is not bundled.

    DIR/<model>/evaluation.json      figures of the split `val`, by category too
    DIR/<model>/figures.md           the same as its model card has them
    DIR/<model>/pairs.png            its pictures that are nearest to training photos
    DIR/<model>.jpg                  uncurated pictures in the conditions of val photos, beside these
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.card import figures
from tests.benchmarks.one_family import CPU, save_grid, write
from toygan.artifact.load import load_model
from toygan.calibration.photos import photos_of
from toygan.registry.models import resolve

PICTURES = 1_000
MODELS = ("toybricks-sketch128", "toybricks-layout128", "toybricks-text128")


def measure(model: str, photos: str, output: Path) -> None:
    name = Path(model).name
    given = ("--model", model, "--photos", photos, "--pictures", PICTURES, "--json")
    (output / name).mkdir(parents=True, exist_ok=True)
    evaluation = _toygan("evaluate", *given, "--pairs", output / name / "pairs.png")
    write(output / name / "evaluation.json", evaluation)
    write(output / name / "figures.md", figures(json.loads(evaluation)).encode())
    show(model, photos, output / f"{name}.jpg")


def show(name: str, photos: str, file: Path) -> None:
    """Shows val photos, their conditions, and pictures generated in these conditions."""
    model = load_model(resolve(name, None), CPU)
    val = photos_of(model, photos, split="val")
    drawings = model.image_condition is not None
    save_grid(file, model.name, model, val, columns=3 if drawings else 5, drawings=drawings)


def _toygan(*arguments: object) -> bytes:
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    print(*command[2:], file=sys.stderr, flush=True)
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--model", action="append")
    options = parser.parse_args(arguments)
    for model in options.model or MODELS:
        measure(model, options.photos, options.output)


if __name__ == "__main__":
    main()
