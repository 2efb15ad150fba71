"""How much closer machine and people agree after `toygan calibrate --decisions`, with simulated reviewers.

    python -m tests.benchmarks.decisions --photos photos/ --output DIR

A picture is generated from the layout of each photo that no network was trained on: those of the split val
and of the calibration products. The reviewers know the photo, which the networks do not. They approve the
half of the pictures that is nearer to its photo, by the perceptual distance of EfficientNet-Lite0, which no
training uses. `toygan calibrate` gets a part of the decisions. The agreement is measured on the decisions
about other products. DIR keeps the pictures for the next time.
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from flows.local import run_generate
from toygan.approval.people import DecidedPictures, agreement_with, fit_to_people
from toygan.artifact.calibration import Calibration
from toygan.artifact.files import CALIBRATION
from toygan.calibration.calibrate import calibrate_model
from toygan.calibration.decisions import decided_pictures
from toygan.data.split import is_calibration_sku
from toygan.evaluation.features import load_network
from toygan.evaluation.perceptual import perceptual_distances
from toygan.images import decode
from toygan.planning.finished import Parts, read_manifest
from toygan.registry.models import resolve
from toygan.review.record import Wanted, find_pictures, record
from toygan.storage.local import LocalStore

MODEL: Final = "toybricks-layout128"
RUN: Final = "decisions"
SIDE: Final = 256  # pixels of the photos
DECISIONS: Final = (50, 100, 200, 300)
SPLITS: Final = 5
CPU: Final = torch.device("cpu")


def unseen_photos(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of the photos that training left out, by photo_id."""
    wanted = ["photo_id", "sku", "category", "title", "colour_hex", "split", "photo", "layout"]
    rows = [
        row
        for file in sorted(folder.glob("*.parquet"))
        for row in pq.read_table(file, columns=wanted).to_pylist()
    ]
    return {row["photo_id"]: row for row in rows if row["split"] == "val" or is_calibration_sku(row["sku"])}


def generate(photos: dict[str, dict[str, Any]], folder: Path) -> Path:
    """Generates a picture from the layout of each photo; returns the store."""
    store = folder / "store"
    if (store / "runs" / f"{RUN}.json").exists():
        return store
    folder.mkdir(parents=True, exist_ok=True)
    for name, row in photos.items():
        (folder / f"{name}.png").write_bytes(row["layout"])
    columns = ("category", "title", "colour_hex")
    catalog = [
        {"sku": name, "layout_uri": f"{name}.png"} | {column: row[column] for column in columns}
        for name, row in photos.items()
    ]
    pq.write_table(pa.Table.from_pylist(catalog), folder / "catalog.parquet")
    run_generate(
        catalog=str(folder / "catalog.parquet"),
        columns=(),
        run_id=RUN,
        output=str(store),
        models={"layout": MODEL},
    )
    return store


def review(store: LocalStore, photos: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Returns for each stored picture by id whether a reviewer approves it."""
    manifest = read_manifest(store, RUN)
    assert manifest is not None
    parts = Parts(store, RUN, manifest.shards)
    rows = [row for part in parts for row in part.to_pylist() if row["image_uri"]]
    pictures = [_tensor(store.get(row["image_uri"])) for row in rows]
    truths = [_tensor(photos[row["sku"]]["photo"]) for row in rows]
    distances = perceptual_distances(load_network(CPU), torch.stack(pictures), torch.stack(truths))
    middle = float(np.median(distances))
    return {row["image_id"]: bool(each <= middle) for row, each in zip(rows, distances, strict=True)}


def _tensor(file: bytes) -> torch.Tensor:
    image = Image.fromarray(decode(file)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def decide(store: LocalStore, approved: dict[str, bool]) -> None:
    """Stores the decisions of the two reviewers, who take turns."""
    pictures = find_pictures(store, approved)
    wanted = [
        Wanted(
            decision="approve" if good else "reject", image_id=image_id, decided_by=("Ann", "Bo")[turn % 2]
        )
        for turn, (image_id, good) in enumerate(approved.items())
    ]
    record(store, wanted, pictures)


def curve(calibration: Calibration, pictures: DecidedPictures, seed: int) -> list[tuple[int, float, float]]:
    """Returns the number of decisions, and the agreement on the others before and after."""
    products = np.unique(pictures.skus)
    order = np.random.default_rng(seed).permutation(products)
    place = {sku: at for at, sku in enumerate(order)}
    ranked = np.argsort([place[sku] for sku in pictures.skus], kind="stable")
    unseen = pictures.select(~np.isin(pictures.skus, pictures.skus[ranked[: max(DECISIONS)]]))
    before = agreement_with(calibration, unseen)
    found = []
    for count in DECISIONS:
        fitted = fit_to_people(calibration, pictures.select(ranked[:count]))
        assert fitted.probe is not None
        assert unseen.evidence is not None
        scored = replace(unseen, logits=fitted.probe.logits(unseen.evidence))
        found.append((count, before, agreement_with(fitted, scored)))
    return found


def main(photos_folder: Path, folder: Path) -> None:
    """Prints what the command says after 300 decisions, and a line for each number of decisions."""
    photos = unseen_photos(photos_folder)
    made = generate(photos, folder)
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as name:
        store = LocalStore(shutil.copytree(made, Path(name) / "store"))
        approved = review(store, photos)
        print(f"{len(approved)} pictures, {sum(approved.values())} of them approved by the reviewers")
        ids = np.random.default_rng(0).permutation(list(approved)).tolist()
        decide(store, {each: approved[each] for each in ids[: max(DECISIONS)]})
        for line in calibrate_model(
            MODEL, photos=None, store_uri=store.uri, device=CPU, decisions_uri=store.uri
        ):
            print(line)
        decide(store, {each: approved[each] for each in ids[max(DECISIONS) :]})
        model = resolve(f"{MODEL}", None)
        calibration = Calibration.from_json(model.files[CALIBRATION])
        pictures = decided_pictures(calibration, model, store, CPU)
    # The views of a product are on one side.
    pictures = replace(pictures, skus=np.array([photos[each]["sku"] for each in pictures.skus]))
    print(f"{len(pictures)} of the pictures pass all checks, by {len(set(pictures.skus))} products")
    curves = np.array([curve(calibration, pictures, seed) for seed in range(SPLITS)])
    for at, count in enumerate(DECISIONS):
        before, after = curves[:, at, 1], curves[:, at, 2]
        print(
            f"{count} decisions: agreement on unseen ones {before.mean():.3f} -> {after.mean():.3f} "
            f"({(after - before).min():+.3f} to {(after - before).max():+.3f} in {SPLITS} splits)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    main(arguments.photos, arguments.output)
