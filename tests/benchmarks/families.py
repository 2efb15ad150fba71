"""Every model family, trained for the same minutes of CPU on the same photos, in one table.

    python -m tests.benchmarks.families --photos URI --output DIR [--cpu-minutes 20] [--resolution 64]
                                        [--family F]... [--threads 1] [--pictures 1000]

Each family trains by its preset in a process of its own, on the split `train`. The time counted is that of
the training steps, of all threads (`time.process_time`); start-up and the reading of photos are left out.
Then its pictures are measured against the split `val`, which nothing trains on or is chosen by.

    DIR/<family>/training/        as `toygan train` leaves it
    DIR/<family>/cpu.json         the CPU time that went into it
    DIR/<family>/evaluation.json  as `toygan evaluate --json` prints it
    DIR/<family>.jpg              val photos beside pictures in their conditions, a row a category
    DIR/table.json, DIR/table.md  all families that are done

Run again, it goes on where it stopped: a family that is done stays, one that was interrupted resumes from its
newest checkpoint (there is one every `SLICE_CPU_S`) with the CPU time that the checkpoint had cost. A family
that fails is reported and does not stop the others; the exit code is 1 then.
"""

import argparse
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from toygan.data.photos import PhotoSet, load_photos
from toygan.errors import ToyganError
from toygan.evaluation.evaluate import evaluate
from toygan.generation.model import Model, load_model
from toygan.models import FAMILIES
from toygan.registry import resolve
from toygan.seeds import image_seed
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.config import PRESETS, TrainConfig, choose_config
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
        kept = json.loads(file.read_bytes()) if file.exists() else {"cpu_s": 0.0, "checkpoints": {}}
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


# One family, in a process of its own.


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
        max_minutes=NO_LIMIT_MINUTES,
        resume=True,
        should_stop=should_stop,
    )
    # The last checkpoint took its own time to write; it belongs to no step.
    ledger.note(spent_s, newest_checkpoint(training), now=True)
    return spent_s


def evaluate_family(family: str, settings: Settings) -> None:
    """Measures the finished model and shows it."""
    folder = settings.output / family
    model = load_model(resolve(str((folder / "training" / "model").resolve()), None), CPU)
    val, train_photos = (
        load_photos(
            settings.photos,
            resolution=model.resolution,
            split=split,
            categories=model.categories,
            image_condition=model.image_condition,
        )
        for split in ("val", "train")
    )
    save_grid(settings.output / f"{family}.jpg", model, val)
    evaluation = evaluate(model, val, train_photos, pictures=settings.pictures, seed=SEED)
    content = json.loads(evaluation.to_json()) | {"checkpoint": newest_checkpoint(folder / "training")}
    write(folder / "evaluation.json", json.dumps(content, indent=1).encode())


def save_grid(file: Path, model: Model, val: PhotoSet) -> None:
    """A row a category: some of its val photos, and to the right pictures in the conditions of the same ones.

    Photos and latents follow from `SEED` alone.
    """
    random = np.random.default_rng(SEED)
    side = model.resolution
    half = GRID_COLUMNS * side
    chosen = [
        (name, random.permutation(val.of_category(index))[:GRID_COLUMNS].tolist())
        for index, name in enumerate(model.categories)
        if val.of_category(index)
    ]
    sheet = Image.new("RGB", (LABEL_WIDTH + 2 * half + GAP, HEADING_HEIGHT + side * len(chosen)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((LABEL_WIDTH, 3), "photos of the split val", fill="black")
    heading = f"{model.family}, drawn in the same conditions, uncurated, seed {SEED}"
    draw.text((LABEL_WIDTH + half + GAP, 3), heading, fill="black")
    for number, (name, rows) in enumerate(chosen):
        top = HEADING_HEIGHT + number * side
        draw.text((4, top + side // 2 - 5), name, fill="black")
        seeds = [image_seed(f"grid {SEED}", row, 0, model.name, "") for row in rows]
        drawn = model.draw(seeds, [val.product(row) for row in rows], GRID_COLUMNS)
        for column, row in enumerate(rows):
            left = LABEL_WIDTH + column * side
            photo = val.images[row].permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(photo), (left, top))
            sheet.paste(Image.fromarray(drawn.pixels[column]), (left + half + GAP, top))
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    sheet.save(unfinished, "JPEG", quality=88)
    unfinished.replace(file)


# All families.


def is_trained(family: str, settings: Settings) -> bool:
    checkpoint = newest_checkpoint(settings.output / family / "training")
    spent_s = Ledger(settings.output / family / "cpu.json").spent_s(checkpoint)
    return spent_s >= 60 * settings.cpu_minutes


def evaluation_of(family: str, settings: Settings) -> dict[str, Any] | None:
    """What was found, if it was found on the newest checkpoint."""
    file = settings.output / family / "evaluation.json"
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found if found["checkpoint"] == newest_checkpoint(file.parent / "training") else None


def run_family(family: str, settings: Settings) -> bool:
    """Trains and evaluates one family as far as it is not done; whether it is now."""
    if not is_trained(family, settings) and not _child("train", family, settings):
        return False
    return evaluation_of(family, settings) is not None or _child("evaluate", family, settings)


def _child(stage: str, family: str, settings: Settings) -> bool:
    print(f"== {stage} {family}", file=sys.stderr, flush=True)
    options = {name.replace("_", "-"): str(value) for name, value in asdict(settings).items()}
    command = [sys.executable, "-m", "tests.benchmarks.families", "--stage", stage, "--family", family]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    threads = str(settings.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    child = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])
    try:
        code = child.wait()
    except BaseException:
        # Ctrl-C, or this process was told to end: the child saves what it has.
        child.terminate()
        child.wait()
        raise
    if code:
        print(f"== {stage} {family} failed with exit code {code}", file=sys.stderr, flush=True)
    return not code


def rows_of(families: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """The figures of every family that is done."""
    rows = []
    for family in families:
        found = evaluation_of(family, settings)
        if found is None:
            continue
        spent_s = Ledger(settings.output / family / "cpu.json").spent_s(found["checkpoint"])
        images = int(found["checkpoint"])
        rows.append(
            {
                "family": family,
                "cpu_s": round(spent_s, 1),
                "images_seen": images,
                "images_per_cpu_s": round(images / spent_s, 2),
                **found["overall"]["pictures"],
                "near_copies": found["near_copies"],
                "photos": found["overall"]["photos"],
                "training_photos": found["training_photos"],
                "feature_network": found["feature_network"],
            }
        )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], settings: Settings) -> str:
    """The table, with what a perfect model would reach in its last row."""
    lines = [
        "| family | images seen | images per CPU second | KID x 1000 | precision | recall | density "
        "| coverage | colour error | category right |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            _line(f"`{row['family']}`", f"{row['images_seen']:,}", f"{row['images_per_cpu_s']:.1f}", row, row)
        )
    if rows:
        last = rows[-1]
        lines.append(_line("photos", "", "", last["training_photos"], last["photos"]))
        lines += [
            "",
            f"{settings.cpu_minutes:g} minutes of CPU each, {settings.threads} thread(s), "
            f"{settings.resolution} pixels, {last['pictures']:,} pictures in the conditions of the val "
            f"photos, seed {SEED}, features of {last['feature_network']}. Last row: as many training "
            "photos against the val photos; colour and category of the val photos.",
        ]
    return "\n".join(lines) + "\n"


def _line(name: str, images: str, speed: str, compared: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    kid = compared["kid"]
    cells = [name, images, speed, f"{1000 * kid['value']:.1f} ± {1000 * kid['error']:.1f}"]
    cells += [f"{compared[figure]:.3f}" for figure in ("precision", "recall", "density", "coverage")]
    cells.append("-" if own["colour_delta_e"] is None else f"{own['colour_delta_e']:.1f}")
    cells.append("-" if own["category_accuracy"] is None else f"{own['category_accuracy']:.3f}")
    return f"| {' | '.join(cells)} |"


def known_families() -> list[str]:
    return [family for family in FAMILIES if family in PRESETS]


def run(families: Sequence[str], settings: Settings) -> bool:
    """All families, one after the other; whether all are done. The table is written after each."""
    done = True
    for family in families:
        done &= run_family(family, settings)
        rows = rows_of(known_families(), settings)
        about = {**asdict(settings), "output": str(settings.output), "seed": SEED}
        write(settings.output / "table.json", json.dumps({**about, "families": rows}, indent=1).encode())
        write(settings.output / "table.md", markdown(rows, settings).encode())
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.families", description="All families in one table."
    )
    parser.add_argument("--photos", required=True, help="as of `toygan train`")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--cpu-minutes", type=float, default=20.0)
    parser.add_argument("--resolution", type=int, default=64, help="pixels")
    parser.add_argument("--family", action="append", choices=known_families())
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=1000, help="to draw and measure, of each family")
    parser.add_argument("--stage", choices=("train", "evaluate"), help=argparse.SUPPRESS)
    options = vars(parser.parse_args(arguments))
    families = options.pop("family") or known_families()
    stage = options.pop("stage")
    settings = Settings(**options)
    settings = replace(settings, output=settings.output.resolve())
    if stage is None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        return 0 if run(families, settings) else 1
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(settings.threads)
    try:
        (train_family if stage == "train" else evaluate_family)(families[0], settings)
    except ToyganError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
