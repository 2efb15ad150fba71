"""All model families and presets, trained for the same minutes of CPU on the same photos, in one table.

    python -m tests.benchmarks.families --photos URI --output DIR [--cpu-minutes 20] [--resolution 64]
                                        [--family F]... [--threads 1] [--pictures 1000]

Each family trains by its preset in a process of its own, on the split `train`. The time counted is that of
the training steps, of all threads (`time.process_time`); start-up and the reading of photos are left out.
Then its pictures are measured against the split `val`, which nothing trains on or is chosen by.

    DIR/<family>/training/        as `toygan train` leaves it
    DIR/<family>/cpu.json         the CPU time that went into it
    DIR/<family>/evaluation.json  as `toygan evaluate --json` prints it
    DIR/features/                 what the feature network saw in the photos, for the next family
    DIR/<family>.jpg              val photos beside pictures in their conditions, a row a category
    DIR/table.json, DIR/table.md  all families that are done
    DIR/table.jpg                 two pictures of each category of all these grids

Run again, it goes on where it stopped: a family that is done stays, one that was interrupted resumes from its
newest checkpoint (there is one every `SLICE_CPU_S`) with the CPU time that the checkpoint had cost. A family
that fails is reported and does not stop the others; the exit code is 1 then.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from tests.benchmarks.one_family import (
    GAP,
    GRID_COLUMNS,
    HEADING_HEIGHT,
    LABEL_WIDTH,
    SEED,
    Ledger,
    Settings,
    evaluate_family,
    newest_checkpoint,
    train_family,
    write,
)
from toygan.errors import ToyganError
from toygan.training.presets import PRESETS

OVERVIEW_COLUMNS = 2


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
        # Ctrl-C, or this process got SIGTERM: the child saves what it has.
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


def overview(families: Sequence[str], settings: Settings) -> Image.Image:
    """From the grids of the families: photos in the first row, then a row a family."""
    side, cut = settings.resolution, OVERVIEW_COLUMNS
    grids = {family: Image.open(settings.output / f"{family}.jpg") for family in families}
    first = grids[families[0]]  # the photos are the same in all
    categories = (first.height - HEADING_HEIGHT) // side
    sheet = Image.new("RGB", (LABEL_WIDTH + categories * cut * side, (1 + len(grids)) * side), "white")
    draw = ImageDraw.Draw(sheet)
    generated_from = LABEL_WIDTH + GRID_COLUMNS * side + GAP
    rows = [("photos", first, LABEL_WIDTH)]
    rows += [(family, grid, generated_from) for family, grid in grids.items()]
    for row, (name, grid, left) in enumerate(rows):
        draw.text((4, row * side + side // 2 - 5), name, fill="black")
        for category in range(categories):
            top = HEADING_HEIGHT + category * side
            pictures = grid.crop((left, top, left + cut * side, top + side))
            sheet.paste(pictures, (LABEL_WIDTH + category * cut * side, row * side))
    return sheet


def run(families: Sequence[str], settings: Settings) -> bool:
    """All families, one after the other; whether all are done. The table is written after each."""
    done = True
    for family in families:
        done &= run_family(family, settings)
        rows = rows_of(list(PRESETS), settings)
        about = {**asdict(settings), "output": str(settings.output), "seed": SEED}
        write(settings.output / "table.json", json.dumps({**about, "families": rows}, indent=1).encode())
        write(settings.output / "table.md", markdown(rows, settings).encode())
        if rows:
            shown = overview([row["family"] for row in rows], settings)
            shown.save(settings.output / "table.jpg", "JPEG", quality=88)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.families", description="All families in one table."
    )
    parser.add_argument("--photos", required=True, help="as of `toygan train`")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--cpu-minutes", type=float, default=20.0)
    parser.add_argument("--resolution", type=int, default=64, help="pixels")
    parser.add_argument("--family", action="append", choices=list(PRESETS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=1000, help="to draw and measure, of each family")
    parser.add_argument("--stage", choices=("train", "evaluate"), help=argparse.SUPPRESS)
    options = vars(parser.parse_args(arguments))
    families = options.pop("family") or list(PRESETS)
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
