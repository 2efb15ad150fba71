"""One family of `tests.benchmarks.families`: its training, with the CPU time it takes, and its figures."""

import fcntl
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tests.benchmarks.customisation import show_layout
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.calibration.photos import photos_of
from toygan.data.photos import PhotoSet
from toygan.evaluation.evaluate import evaluate
from toygan.evaluation.features import Efficientnet, Features
from toygan.registry.models import resolve
from toygan.seeds import image_seed
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.choose import choose_config
from toygan.training.config import TrainConfig
from toygan.training.limits import Limits
from toygan.training.train import train

SEED = 0
SLICE_CPU_S = 240.0  # at most this much work is lost by a kill
NOTE_EVERY_S = 5.0
NO_LIMIT_MINUTES = 1e9  # of wall time: the CPU time is the limit
GRID_COLUMNS = 6  # photos a category
LABEL_WIDTH, HEADING_HEIGHT, GAP = 76, 18, 8  # pixels
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all families have in common."""

    photos: str
    output: Path
    cpu_minutes: float
    resolution: int
    threads: int
    pictures: int


class Ledger:
    """The CPU time that a training has cost, kept beside it.

    The time of every checkpoint is kept too, since a training that was killed goes on from the newest one.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._noted_s = 0.0
        kept: dict[str, Any] = {"cpu_s": 0.0, "checkpoints": {}}
        if file.exists():
            kept = json.loads(file.read_bytes())
        self._latest_s: float = kept["cpu_s"]
        self._checkpoints: dict[str, float] = kept["checkpoints"]

    def spent_s(self, checkpoint: str | None) -> float:
        """CPU seconds behind a checkpoint; 0 without one.

        A checkpoint that the ledger does not know was being written when the process died: it is the latest.
        """
        return 0.0 if checkpoint is None else self._checkpoints.get(checkpoint, self._latest_s)

    def note(self, cpu_s: float, checkpoint: str | None, *, now: bool = False) -> None:
        """`cpu_s` have been spent, and `checkpoint` is the newest one. Written now and then, or `now`."""
        is_new = checkpoint is not None and checkpoint not in self._checkpoints
        if is_new and checkpoint is not None:
            self._checkpoints[checkpoint] = cpu_s
        self._latest_s = cpu_s
        if now or is_new or cpu_s - self._noted_s >= NOTE_EVERY_S:
            self._noted_s = cpu_s
            write(self._file, json.dumps({"cpu_s": cpu_s, "checkpoints": self._checkpoints}).encode())


def newest_checkpoint(training: Path) -> str | None:
    folders = checkpoint_folders(training)
    return folders[-1].name if folders else None


def write(file: Path, data: bytes) -> None:
    """In one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.tmp")
    unfinished.write_bytes(data)
    unfinished.replace(file)


def train_family(family: str, settings: Settings) -> None:
    """Trains slice by slice until the minutes are spent, from the newest checkpoint if there is one."""
    config = choose_config(family, resolution=settings.resolution)
    budget_s = 60 * settings.cpu_minutes
    parent, stopped = os.getppid(), []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopped.append(number))

    def should_end() -> bool:
        # A parent that was killed could not say so.
        return bool(stopped) or os.getppid() != parent

    with alone(settings.output / family / "lock"):
        while _train_slice(family, settings, config, budget_s, should_end) < budget_s:
            if should_end():
                sys.exit(1)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Two processes must not train into one folder; the system gives the lock back when a process ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another process is at work in {file.parent}; wait for it")
        yield


def _train_slice(
    family: str,
    settings: Settings,
    config: TrainConfig,
    budget_s: float,
    should_end: Callable[[], bool],
) -> float:
    """Returns the CPU seconds spent by now."""
    training = settings.output / family / "training"
    ledger = Ledger(settings.output / family / "cpu.json")
    before_s = spent_s = ledger.spent_s(newest_checkpoint(training))
    if spent_s >= budget_s:
        return spent_s
    until_s = min(budget_s, before_s + SLICE_CPU_S)
    began_s: float | None = None

    def should_stop() -> bool:
        nonlocal began_s, spent_s
        now_s = time.process_time()
        began_s = now_s if began_s is None else began_s
        spent_s = before_s + now_s - began_s
        is_over = spent_s >= until_s or should_end()
        ledger.note(spent_s, newest_checkpoint(training), now=is_over)
        return is_over

    train(
        photos_uri=settings.photos,
        output=training,
        config=config,
        device=CPU,
        limits=Limits(max_minutes=NO_LIMIT_MINUTES, should_stop=should_stop),
        resume=True,
    )
    # The last checkpoint took its own time to write; it belongs to no step.
    ledger.note(spent_s, newest_checkpoint(training), now=True)
    return spent_s


def evaluate_family(family: str, settings: Settings) -> None:
    """Measures the finished model and shows it."""
    folder = settings.output / family
    model = load_model(resolve(str((folder / "training" / "model").resolve()), None), CPU)
    val, train_photos = (photos_of(model, settings.photos, split=split) for split in ("val", "train"))
    save_grid(settings.output / f"{family}.jpg", family, model, val)
    network = RememberingNetwork(settings.output / "features")
    evaluation = evaluate(model, val, train_photos, pictures=settings.pictures, seed=SEED, network=network)
    content = json.loads(evaluation.to_json()) | {"checkpoint": newest_checkpoint(folder / "training")}
    write(folder / "evaluation.json", json.dumps(content, indent=1).encode())


class RememberingNetwork(Efficientnet):
    """Keeps on disk what it saw: every family is compared with the same photos."""

    def __init__(self, folder: Path) -> None:
        super().__init__(CPU)
        self._folder = folder

    def extract(self, images: Tensor, on_batch: Callable[[int], None] = lambda pictures: None) -> Features:
        file = self._folder / f"{sha256(images.contiguous().numpy().data).hexdigest()}.npy"
        if file.exists():
            on_batch(len(images))
            kept: Features = np.load(file, allow_pickle=False)
            return kept
        found = super().extract(images, on_batch)
        content = io.BytesIO()
        np.save(content, found, allow_pickle=False)
        write(file, content.getvalue())
        return found


def save_grid(
    file: Path,
    family: str,
    model: Model,
    val: PhotoSet,
    *,
    columns: int = GRID_COLUMNS,
    drawings: bool = False,
) -> None:
    """A row a category: some of its val photos, and to the right pictures in the conditions of the same ones.

    With `drawings` the sketches or layouts of the pictures stand between them. Photos and latents
    follow from `SEED` alone.
    """
    random = np.random.default_rng(SEED)
    side = model.resolution
    chosen = [
        (name, random.permutation(val.of_category(index))[:columns].tolist())
        for index, name in enumerate(model.categories)
        if val.of_category(index)
    ]
    headings = [
        "photos of the split val",
        *([f"the {model.image_condition} of each"] if drawings else []),
        f"{family}, generated in the same conditions, uncurated, seed {SEED}",
    ]
    block = columns * side + GAP
    size = (LABEL_WIDTH + block * len(headings) - GAP, HEADING_HEIGHT + side * len(chosen))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, heading in enumerate(headings):
        draw.text((LABEL_WIDTH + number * block, 3), heading, fill="black")
    for number, (name, rows) in enumerate(chosen):
        top = HEADING_HEIGHT + number * side
        draw.text((4, top + side // 2 - 5), name, fill="black")
        seeds = [image_seed(f"grid {SEED}", row, 0, model.name, "") for row in rows]
        products = [val.product(row) for row in rows]
        generated = model.generate(seeds, products, columns)
        for column, (row, product) in enumerate(zip(rows, products, strict=True)):
            tiles = [Image.fromarray(val.images[row].permute(1, 2, 0).numpy())]
            if drawings and product.image is not None:
                is_layout = model.image_condition == "layout"
                tiles.append(show_layout(product.image) if is_layout else Image.fromarray(product.image))
            tiles.append(Image.fromarray(generated.pixels[column]))
            for place, tile in enumerate(tiles):
                sheet.paste(tile, (LABEL_WIDTH + place * block + column * side, top))
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    sheet.save(unfinished, "JPEG", quality=88)
    unfinished.replace(file)
