"""The bundled models, made anew.

    python -m tests.benchmarks.bundled --photos URI --output DIR [--model NAME]... [--share 1]

Every model by the configs and lengths in `MODELS`, seed 0, one command of `toygan` after the other:

    DIR/<model>/<config>/            as `toygan train` leaves it, in the end in half precision and calibrated
    DIR/<model>/curve.json           figures of the split `val` at `MILESTONES` points of the last training
    DIR/<model>/evaluation.json      those of the finished model, by category too
    DIR/<model>/figures.md           the same as its model card has them
    DIR/<model>/pairs.png            its pictures that are nearest to training photos
    DIR/<model>.jpg                  uncurated pictures in the conditions of val photos, beside these

Takes many hours on a CPU; which training took how long on which device say the model cards. Run again it goes
on where it stopped: trainings resume, and points that are measured stay. The weights are a function of the
photos, the configs and the seed where the kind and number of cores agree (OMP_NUM_THREADS); for fewer images,
to try it, give --share 0.01.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

import toygan.training
from tests.benchmarks.card import figures
from tests.benchmarks.one_family import CPU, alone, save_grid, write
from toygan.artifact.load import load_model
from toygan.calibration.photos import photos_of
from toygan.registry.models import resolve

CONFIGS = Path(toygan.training.__file__).parent / "configs"
MILESTONES = 6
PICTURES = 1_000
ACCEPTANCE = 0.8
# Of whose pictures some are refused as guesses: at 0.95 more than a third of a catalog had no picture.
ACCEPTANCES = {"toybricks-text128": 0.97}


@dataclass(frozen=True)
class Stage:
    """One training; it starts from the weights of the one before."""

    config: str  # a file of CONFIGS, whose name begins with the family
    images: int

    @property
    def family(self) -> str:
        return self.config.partition("-")[0]


MODELS = {
    "toybricks-sketch128": (
        Stage("pix2pix-128", 60_000),
        Stage("pix2pix-128-mixed", 42_000),
        Stage("pix2pix-128-named", 24_000),
        Stage("pix2pix-128-longer", 131_328),  # beyond it the discriminator knows the photos by heart
        Stage("pix2pix-128-layouts", 52_000),
        Stage("pix2pix-128-layouts-nearer", 12_000),
    ),
    "toybricks-layout128": (
        Stage("spade-128", 17_600),
        Stage("spade-128-longer", 22_000),
        Stage("spade-128-mixed", 18_000),
        Stage("spade-128-shaded", 34_000),
        Stage("spade-128-shaded-longer", 126_016),
        Stage("spade-128-shaded-nearer", 8_000),
    ),
    "toybricks-text128": (
        Stage("spade-128-lines", 62_000),
        Stage("spade-128-lines-longer", 122_048),
        Stage("spade-128-lines-nearer", 24_000),
    ),
}
# Their latents are mostly brightness: less of it, and colours are truer. Found on the calibration products.
TRUNCATIONS = {"toybricks-layout128": 0.3, "toybricks-text128": 0.2}
# The model and its training from whose weights the first training of another goes on.
STARTS_FROM = {"toybricks-text128": ("toybricks-layout128", "spade-128-shaded")}


def milestones(images: int, share: float) -> list[int]:
    """Image counts at which the last training is measured; the last one is its end."""
    return [max(1, round(images * share * number / MILESTONES)) for number in range(1, MILESTONES + 1)]


def make(name: str, photos: str, output: Path, share: float) -> None:
    *earlier, last = MODELS[name]
    folder, initial = output / name, None
    if name in STARTS_FROM:
        other, config = STARTS_FROM[name]
        initial = output / other / config / "model"
        if not (output / other / "evaluation.json").exists():
            with alone(output / other / "lock"):
                make(other, photos, output, share)
    for stage in earlier:
        _train(stage, photos, folder, max(1, round(stage.images * share)), initial)
        initial = folder / stage.config / "model"
    model, curve = folder / last.config / "model", folder / "curve.json"
    points: list[dict[str, Any]] = json.loads(curve.read_bytes()) if curve.exists() else []
    for images in milestones(last.images, share)[len(points) :]:
        _train(last, photos, folder, images, initial)
        found = json.loads(_toygan("evaluate", "--model", model, *_measured(photos)))
        points.append({"images_seen": _images_seen(model), **found["overall"]["pictures"]})
        write(curve, json.dumps(points, indent=1).encode())
    halve(model)
    truncate(model, TRUNCATIONS.get(name, 1.0))
    acceptance = ACCEPTANCES.get(name, ACCEPTANCE)
    _toygan("calibrate", "--model", model, "--photos", photos, "--acceptance", acceptance, "--probe")
    evaluation = _toygan("evaluate", "--model", model, *_measured(photos), "--pairs", folder / "pairs.png")
    write(folder / "evaluation.json", evaluation)
    write(folder / "figures.md", figures(json.loads(evaluation)).encode())
    show(name, model, photos, output / f"{name}.jpg")


def halve(model: Path) -> None:
    """Stores matrices and kernels in half precision, so that the package stays small; vectors stay.

    The variances of a normalisation may be too small for it.
    """
    for file in model.glob("*.safetensors"):
        tensors = load(file.read_bytes())
        halved = {
            key: value.half() if value.ndim > 1 and value.is_floating_point() else value
            for key, value in tensors.items()
        }
        if not all(value.isfinite().all() for value in halved.values()):
            raise ValueError(f"{file} holds numbers that half precision cannot")
        write(file, save(halved))


def truncate(model: Path, truncation: float) -> None:
    config = json.loads((model / "config.json").read_bytes()) | {"truncation": truncation}
    write(model / "config.json", (json.dumps(config, indent=1, sort_keys=True) + "\n").encode())


def show(name: str, folder: Path, photos: str, file: Path) -> None:
    """Shows val photos, their conditions, and pictures generated in these conditions."""
    model = load_model(resolve(str(folder), None), CPU)
    val = photos_of(model, photos, split="val")
    drawings = model.image_condition is not None
    save_grid(file, name, model, val, columns=3 if drawings else 5, drawings=drawings)


def _measured(photos: str) -> Iterator[object]:
    yield from ("--photos", photos, "--pictures", PICTURES, "--json")


def _train(stage: Stage, photos: str, folder: Path, images: int, initial: Path | None) -> None:
    output = folder / stage.config
    if (output / "model").exists() and _images_seen(output / "model") >= images:
        return
    _toygan(
        *("train", "--photos", photos, "--family", stage.family, "--output", output, "--resume"),
        *("--config", CONFIGS / f"{stage.config}.json", "--max-images", images),
        *(() if initial is None else ("--init", initial)),
    )


def _images_seen(model: Path) -> int:
    images: int = json.loads((model / "config.json").read_bytes())["training"]["images_seen"]
    return images


def _toygan(*arguments: object) -> bytes:
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    print(*command[2:], file=sys.stderr, flush=True)
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args(arguments)
    output = options.output.resolve()  # a model's path must not look like a name
    for name in options.model or MODELS:
        with alone(output / name / "lock"):
            make(name, options.photos, output, options.share)


if __name__ == "__main__":
    main()
