"""What the studio makes of snapshots: `python -m tests.benchmarks snapshots`.

Needs the environment variable TOYGAN_SNAPSHOTS: a folder with `photos/*.parquet` and
`snapshots/*.parquet`, joined by `photo_id`. TOYGAN_STUDIO may name a model; the default is the bundled one.
TOYGAN_LPIPS may name the weights of `tests.benchmarks.lpips_alex`. Nothing trains on the split val, which
this measures. Beside each figure is that of the snapshot cut out by its exact mask, on white, in the same
frame.
"""

import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity
from torch import Tensor

from tests.benchmarks.lpips_alex import load_lpips, lpips_distances
from toygan.approval.checks import check
from toygan.approval.fidelity import compare
from toygan.approval.measures import measure
from toygan.artifact.enhancer import load_enhancer
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.artifact.product_finder import FRAME_SHARE, _box, _cut
from toygan.conditions.product import ProductConditions
from toygan.data.registration import Registration, moved, register
from toygan.evaluation.features import Efficientnet, load_network
from toygan.evaluation.metrics import kernel_distance
from toygan.evaluation.perceptual import perceptual_distances
from toygan.images import BRIGHTNESS, decode
from toygan.memory import keep_freed_memory
from toygan.registry.models import find_default, resolve

SIDE: Final = 512
MEASURED: Final = 256  # pixels, for structure
SEARCHES: Final = 45  # places at which a picture is compared with the photo, for the best one
MISMATCHES: Final = 100
OWN_PIXELS: Final = (64, 100)  # of small products, on their longer side
ENLARGES: Final = "toybricks-layout128"  # a model with an enhancer


@dataclass(kw_only=True)
class Sample:
    """One val snapshot with its truth and what was made of it; pictures are (S, S, 3) uint8."""

    sku: str
    category: str
    colour_hex: str | None
    colour: int  # main label of the layout
    snapshot: NDArray[np.uint8]
    mask: NDArray[np.bool_]  # exact, of the snapshot
    photo: NDArray[np.uint8]
    shown: NDArray[np.bool_]  # the product in the photo
    cut_out: NDArray[np.uint8]
    exact: NDArray[np.bool_]  # the exact mask in the frame of the cut-out
    right_mask: NDArray[np.bool_]  # the exact mask in the frame of the model's picture
    made: dict[str, NDArray[np.uint8]]
    framed: NDArray[np.uint8]  # with the mask that the model found
    problems: tuple[str, ...]
    approved: bool
    cpu_s: float


def read(folder: Path, split: str) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Returns all photos of the split by id, and the snapshots."""
    tables = {
        name: [
            row
            for file in sorted((folder / name).glob("*.parquet"))
            for row in pq.read_table(file).to_pylist()
        ]
        for name in ("photos", "snapshots")
    }
    photos = {row["photo_id"]: row for row in tables["photos"] if row["split"] == split}
    return photos, [row for row in tables["snapshots"] if row["split"] == split]


def labels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data))).astype(np.uint8)


def sample(model: Model, row: dict[str, Any], photo: dict[str, Any]) -> Sample:
    """Makes the pictures of one snapshot, with and without its main colour."""
    snapshot, mask, layout = decode(row["snapshot"]), labels(row["mask"]) > 0, labels(photo["layout"])
    made: dict[str, NDArray[np.uint8]] = {}
    approved = False
    for name, colour_hex in (("colour given", photo["colour_hex"]), ("none given", None)):
        began_s = time.process_time()
        product = ProductConditions(category=row["category"], colour_hex=colour_hex, image=snapshot)
        generated = model.generate([0], [product], 1)
        cpu_s = time.process_time() - began_s
        made[name] = generated.pixels[0]
        if name == "colour given":
            approved = _approved(
                model, row["category"], generated.pixels, float(generated.logits[0]), colour_hex
            )
    found = generated.snapshots[0]
    assert found is not None
    whole = torch.from_numpy(np.concatenate([snapshot, 255 * mask[..., None].astype(np.uint8)], axis=2))
    top, bottom, left, right = _box(torch.from_numpy(mask))
    side = max(bottom - top, right - left) / FRAME_SHARE
    exact = _cut(whole.permute(2, 0, 1), ((top + bottom) / 2, (left + right) / 2), side, SIDE)
    top, left, side = found.square
    right_mask = _cut(whole[..., 3:].permute(2, 0, 1), (top + side / 2, left + side / 2), side, SIDE)[0] > 127
    alpha = exact[3:] / 255
    cut_out = (alpha * exact[:3] + (1 - alpha) * 255).round().byte().permute(1, 2, 0).numpy()
    agrees = compare(made["colour given"], found.pixels).agrees
    return Sample(
        sku=row["sku"],
        category=row["category"],
        colour_hex=photo["colour_hex"],
        colour=int(np.bincount(layout[layout > 0]).argmax()),
        snapshot=snapshot,
        mask=mask,
        photo=decode(photo["photo"]),
        shown=layout > 0,
        cut_out=cut_out,
        exact=(exact[3] > 127).numpy(),
        right_mask=right_mask.numpy(),
        made=made,
        framed=found.pixels,
        problems=found.problems,
        approved=approved and agrees and not found.problems,
        cpu_s=cpu_s,
    )


def _approved(
    model: Model, category: str, pixels: NDArray[np.uint8], logit: float, colour_hex: str | None
) -> bool:
    calibration = model.require_calibration().of(category)
    measures = measure(pixels, [colour_hex])[0]
    return not check(measures, calibration.limits) and calibration.p_real(logit) >= calibration.threshold


def overlap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def colour_error(picture: NDArray[np.uint8], inside: NDArray[np.bool_], each: Sample) -> float:
    """CIEDE2000 between the median colours of the product."""
    medians = [
        np.median(pixels[where], axis=0) / 255
        for pixels, where in ((picture, inside), (each.photo, each.shown))
    ]
    first, second = (rgb2lab(median[None, None]) for median in medians)
    return float(deltaE_ciede2000(first, second)[0, 0])  # type: ignore[no-untyped-call]


def laid(picture: NDArray[np.uint8], inside: NDArray[np.bool_], each: Sample) -> NDArray[np.uint8]:
    """Lays a picture on the photo by the scale and the shift at which their structure agrees best.

    The search begins where the masks overlap best. Cut-outs and pictures of the model are laid by the same
    search, so neither figure depends on where the product stands in its frame.
    """
    layers = np.concatenate([picture, 255 * inside[..., None].astype(np.uint8)], axis=2)
    start = register(inside, torch.from_numpy(each.shown))
    assert start is not None
    # The search works at the resolution at which structure is measured.
    small = reduced(layers).round().astype(np.uint8)
    less = SIDE // MEASURED
    units = (0.01 * start.scale, 2.0, 2.0)  # a step of the search: 1 % of the scale, 2 pixels
    first = np.array(start[:3]) / units

    def disagreement(values: NDArray[np.float64]) -> float:
        scale, top, left = (values * units).tolist()
        place = Registration(scale, top / less, left / less, 0.0)
        return -structure(moved(small, place, MEASURED)[..., :3], each)

    found = minimize(
        disagreement,
        first,
        method="Nelder-Mead",
        options={"initial_simplex": first + np.vstack([np.zeros(3), np.eye(3)]), "maxfev": SEARCHES},
    )
    scale, top, left = (found.x * units).tolist()
    return moved(layers, Registration(scale, top, left, 0.0), SIDE)[..., :3]


def structure(picture: NDArray[np.uint8], each: Sample) -> float:
    """SSIM of luminance inside the photo's product, for a picture that lies on the photo."""
    grey = np.array(BRIGHTNESS, dtype=np.float32)
    small = [reduced(image) @ grey for image in (picture, each.photo)]
    shown = reduced(each.shown[..., None])[..., 0] > 0.5
    _, values = structural_similarity(  # type: ignore[no-untyped-call]
        *small, data_range=255, full=True
    )
    return float(values[shown].mean())


def reduced(picture: NDArray[Any]) -> NDArray[np.float32]:
    """Averages (S, S, C) to the resolution at which structure is measured."""
    factor = len(picture) // MEASURED
    cells = picture.reshape(MEASURED, factor, MEASURED, factor, -1)
    means: NDArray[np.float32] = cells.mean(axis=(1, 3), dtype=np.float32)
    return means


def stacked(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def mismatches(samples: Sequence[Sample]) -> list[bool]:
    """Whether pictures are found to differ from snapshots of other products of their category and colour."""
    pairs = [
        (first.colour != second.colour, number, other)
        for number, first in enumerate(samples)
        for other, second in enumerate(samples)
        if number != other and first.category == second.category
    ]
    chosen = sorted(pairs)[:MISMATCHES]
    return [
        not compare(samples[first].made["none given"], samples[second].framed).agrees
        for _, first, second in chosen
    ]


def small_products(model: Model, samples: Sequence[Sample], network: Any) -> None:
    """Prints how pictures of small products change if a bundled enhancer enlarges them from 128 pixels."""
    source = resolve(ENLARGES, None)
    enhancer = load_enhancer(source.name, source.files, torch.device("cpu"))
    assert enhancer is not None
    for own_pixels in OWN_PIXELS:
        made: list[tuple[NDArray[np.uint8], NDArray[np.uint8], Sample]] = []
        for each in samples[::3]:
            top, bottom, left, right = _box(torch.from_numpy(each.mask))
            side = round(len(each.snapshot) * own_pixels / max(bottom - top, right - left))
            shot = Image.fromarray(each.snapshot).resize((side, side), Image.Resampling.LANCZOS)
            product = ProductConditions(
                category=each.category, colour_hex=each.colour_hex, image=np.array(shot)
            )
            plain = model.generate([0], [product], 1).pixels[0]
            small = F.interpolate(
                stacked([plain]).float(), size=enhancer.small_resolution, mode="bilinear", antialias=True
            )
            enlarged = enhancer.enlarge(small.round().clamp(0, 255).byte())
            made.append((plain, enlarged[0].permute(1, 2, 0).numpy(), each))
        truths = stacked([each.photo for *_, each in made])
        medians = [
            float(np.median(perceptual_distances(network, stacked(pictures), truths)))
            for pictures in ([plain for plain, *_ in made], [enlarged for _, enlarged, _ in made])
        ]
        print(
            f"products of {own_pixels} pixels: perceptual distance {medians[0]:.3f}, by the enhancer ", end=""
        )
        print(f"{medians[1]:.3f}", flush=True)


def scorer_s(network: Any, repeats: int = 3) -> float:
    """CPU seconds of a picture in the plain scorer network at 224 pixels, one thread."""
    image = torch.zeros(1, 3, 224, 224)
    with torch.inference_mode():
        network(image)
        began_s = time.process_time()
        for _ in range(repeats):
            network(image)
    return (time.process_time() - began_s) / repeats


def main() -> None:
    if "TOYGAN_SNAPSHOTS" not in os.environ:
        print("set TOYGAN_SNAPSHOTS to a folder with photos/ and snapshots/ in Parquet")
        return
    torch.set_num_threads(1)
    keep_freed_memory()  # as a shop's run does
    folder, reference = Path(os.environ["TOYGAN_SNAPSHOTS"]), os.environ.get("TOYGAN_STUDIO")
    source = resolve(reference, None) if reference else find_default(None, "photo")
    if source is None:
        print("this installation bundles no model for snapshots; set TOYGAN_STUDIO")
        return
    model = load_model(source, torch.device("cpu"))
    photos, rows = read(folder, "val")
    network = load_network(torch.device("cpu"))
    weights = os.environ.get("TOYGAN_LPIPS")
    alex = load_lpips(Path(weights)) if weights else None
    samples, plain = [], []
    for row in rows:
        samples.append(sample(model, row, photos[row["photo_id"]]))
        # By turns, because other programs slow down a core at some times more than at others.
        plain.append(scorer_s(network))
    masks = [overlap(each.framed[..., 3] > 127, each.right_mask) for each in samples]
    print(f"{len(samples)} snapshots, {source.name}@{source.version}")
    print("mask: median {:.3f}, 5th percentile {:.3f}".format(*np.percentile(masks, [50, 5])))
    features = Efficientnet(torch.device("cpu"))
    real = features.extract(stacked([decode(row["photo"]) for row in photos.values()]))
    kinds = {
        "cut out": ([each.cut_out for each in samples], [each.exact for each in samples]),
        **{
            name: ([each.made[name] for each in samples], [each.framed[..., 3] > 127 for each in samples])
            for name in ("none given", "colour given")
        },
    }
    for name, (pictures, insides) in kinds.items():
        triples = [each for each in zip(pictures, insides, samples, strict=True) if each[1].any()]
        shown = [each for *_, each in triples]
        placed = [laid(*each) for each in triples]
        agreement = [structure(*each) for each in zip(placed, shown, strict=True)]
        distance = perceptual_distances(network, stacked(placed), stacked([each.photo for each in shown]))
        kid = kernel_distance(real, features.extract(stacked(pictures)))
        if alex is not None:
            lpips = np.median(lpips_distances(alex, stacked(placed), stacked([each.photo for each in shown])))
            print(f"{name}: LPIPS {lpips:.3f}")
        print(
            f"{name}: colour {np.median([colour_error(*each) for each in triples]):.2f}, "
            f"structure {np.median(agreement):.3f}, "
            f"perceptual distance {np.median(distance):.3f}, KID x 1000 {1000 * kid.value:.1f}"
        )
    caught = mismatches(samples)
    print(f"approved {sum(each.approved for each in samples)} of {len(samples)}")
    print(f"to review: {[(each.sku, each.problems) for each in samples if not each.approved]}")
    print(f"mismatched pairs caught: {sum(caught)} of {len(caught)}")
    small_products(model, samples, network)
    cpu_s = float(np.median([each.cpu_s for each in samples]))
    plain_s = float(np.median(plain))
    print(f"CPU seconds a picture {cpu_s:.2f}, by the plain scorer's {plain_s:.3f}: {cpu_s / plain_s:.1f}")


if __name__ == "__main__":
    main()
