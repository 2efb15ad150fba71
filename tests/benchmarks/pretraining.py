"""What pre-training on pictures of other things is worth.

    python -m tests.benchmarks.pretraining PACKAGE OUTPUT

Needs the environment variable TOYGAN_TOYBRICKS: a folder with `photos/`. PACKAGE is the unpacked npm package
`emoji-datasource-google` 16.0.0 (MIT; the drawings are of Noto Emoji, Apache-2.0). Its drawings of 64 pixels
are laid out below OUTPUT/pictures as ImageNet is: a folder a class, and every second class a tar file. The
command `toygan train` trains a `dcgan` of 32 pixels on them, then twice on the toy photos: from that model
(`--init`), and from random weights. Both trainings are measured after the same numbers of images. What is
done stays in OUTPUT, so a second run goes on.
"""

import json
import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Final

from PIL import Image
from slugify import slugify

from tests.benchmarks.one_family import CPU, SEED, RememberingNetwork, save_grid
from toygan.artifact.load import load_model
from toygan.calibration.photos import photos_of
from toygan.evaluation.generated import generate_pictures
from toygan.evaluation.metrics import kernel_distance
from toygan.progress import Progress
from toygan.registry.models import resolve

OTHER_PICTURES: Final = 25_600
BUDGETS: Final = (6_400, 12_800, 25_600)  # images of toy photos
MEASURED: Final = 500
# The average of the weights must not remember the start longer than the shortest training.
SETTINGS: Final = {"optimizer": {"ema_half_life_images": 1_000}}


def lay_out(package: Path, folder: Path) -> None:
    """Writes the drawings on white as CLASS/NAME.png, or into CLASS.tar for every second class."""
    classes = defaultdict(list)
    for entry in json.loads((package / "emoji.json").read_text(encoding="utf-8")):
        picture = package / "img" / "google" / "64" / entry["image"]
        if picture.exists():
            classes[slugify(entry["category"])].append(picture)
    for number, (name, pictures) in enumerate(sorted(classes.items())):
        into = folder / name
        into.mkdir(parents=True)
        for picture in pictures:
            drawing = Image.open(picture).convert("RGBA")
            ground = Image.new("RGBA", drawing.size, "white")
            ground.alpha_composite(drawing)
            ground.convert("RGB").save(into / picture.name)
        if number % 2:
            with tarfile.open(folder / f"{name}.tar", "w") as archive:
                for file in sorted(into.iterdir()):
                    archive.add(file, file.name)
                    file.unlink()
            into.rmdir()


def train(photos: Path, output: Path, images: int, *start: str) -> float:
    """Trains up to `images` images, from the newest checkpoint if there is one. Returns the CPU seconds."""
    began_s = sum(os.times()[2:4])
    command = ("train", "--photos", photos, "--output", output, "--max-images", str(images), "--resume")
    subprocess.run([sys.executable, "-m", "flows.cli", *command, *start], check=True)
    return sum(os.times()[2:4]) - began_s


def kid(training: Path, photos: Path, grid: Path) -> str:
    """The KID x 1000 of a trained model, with its error; draws the grid of its pictures, too."""
    model = load_model(resolve(str((training / "model").resolve()), None), CPU)
    val, network = photos_of(model, photos, split="val"), RememberingNetwork(grid.parent / "features")
    with Progress(total=MEASURED, unit="pictures", description="generating") as progress:
        made = generate_pictures(model, val, pictures=MEASURED, seed=SEED, progress=progress)
    found = kernel_distance(network.extract(val.images), network.extract(made.images))
    save_grid(grid, training.name, model, val)
    return f"{1000 * found.value:.1f} ± {1000 * found.error:.1f}"


def main(package: Path, output: Path) -> None:
    if not (toys := os.environ.get("TOYGAN_TOYBRICKS")):
        sys.exit("set TOYGAN_TOYBRICKS to a folder with photos/")
    photos, settings = Path(toys) / "photos", output / "settings.json"
    if not (output / "pictures").is_dir():
        lay_out(package, output / "pictures")
        settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    fresh = ("--family", "dcgan", "--resolution", "32", "--config", str(settings))
    spent_s = train(output / "pictures", output / "other", OTHER_PICTURES, *fresh)
    print(f"{OTHER_PICTURES:,} images of other things: {spent_s:.0f} CPU s", flush=True)
    starts = {"with": ("--init", str((output / "other" / "model").resolve())), "without": fresh}
    print("| images of toy photos | pre-training | CPU s | KID x 1000 |", flush=True)
    print("|---:|---|---:|---:|", flush=True)
    for images in BUDGETS:
        for name, start in starts.items():
            row = output / f"{name}-{images}.txt"
            if not row.exists():
                spent_s = train(photos, output / name, images, *start)
                found = kid(output / name, photos, row.with_suffix(".jpg"))
                row.write_text(f"| {images:,} | {name} | {spent_s:.0f} | {found} |", encoding="utf-8")
            print(row.read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
