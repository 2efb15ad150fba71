"""Models small enough for tests: random weights, and a calibration that is fitted. Usually a dcgan."""

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load, save
from torch import nn

from toygan.approval.fit import fit_calibration
from toygan.artifact.calibration import Calibration, CalibrationSettings
from toygan.artifact.colour_labels import ColourLabels
from toygan.artifact.config import ModelConfig
from toygan.artifact.files import CONFIG, MASK_NETWORK, model_version
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.artifact.limits import CategoryLimits
from toygan.artifact.load import load_model
from toygan.artifact.mask_network_file import mask_network_file
from toygan.artifact.model import Model
from toygan.conditions.colour_names import ColourNames
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.drawing_files import DrawingFiles
from toygan.conditions.image import READERS
from toygan.conditions.product import ProductConditions
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_config import TextConfig
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.models import build, network_config
from toygan.models.mask_network import MaskNetwork
from toygan.training.layout_predictor import fresh_segmenter

CATEGORIES = ("brick", "car", "wheel")
COLOURS = ("#B40000", "#1E5AA8", "#FAC80A", "#00852B", "#F4F4F4", "#1B2A34")
CPU = torch.device("cpu")
BATCH = 8
# Pictures of random networks show no product: what the checks make of them is not what these tests ask.
ANYTHING = CategoryLimits(
    contrast_min=0.0,
    fill_ratio_min=0.0,
    fill_ratio_max=1.0,
    background_white_min=0.0,
    colour_delta_e_max=None,
)
_NETWORK = {
    "latent_size": 16,
    "condition_size": 8,
    "generator_channels": 4,
    "discriminator_channels": 4,
    "max_channels": 16,
}
LAYOUT_CLASSES = 5
_OF_FAMILY: Mapping[str, dict[str, int]] = {
    "dcgan": {},
    "pix2pix": {},
    "spade": {"modulation_channels": 8, "layout_classes": LAYOUT_CLASSES},
}


@dataclass(frozen=True, kw_only=True)
class TinyFiles:
    """The files of a model version, as the registry hands them over."""

    name: str
    files: Mapping[str, bytes]

    @property
    def version(self) -> str:
        return model_version(self.files)

    def with_files(self, **changes: bytes | None) -> "TinyFiles":
        """Other content for files, named without what follows the dot; None takes a file away."""
        files = dict(self.files)
        for stem, data in changes.items():
            kinds = {"config": "json", "calibration": "json", "layout_bank": "parquet"}
            name = f"{stem}.{kinds.get(stem, 'safetensors')}"
            files.pop(name, None)
            if data is not None:
                files[name] = data
        return TinyFiles(name=self.name, files=files)

    def write(self, folder: Path) -> Path:
        """The model as a folder, which gets its name from `folder`."""
        folder.mkdir(parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder

    def load(self) -> Model:
        return load_model(self, CPU)


def config_json(
    family: str, network: Mapping[str, Any], categories: Sequence[str] = CATEGORIES, **values: Any
) -> bytes:
    """The config.json of a model; `values` are those of ModelConfig."""
    networks = network_config(family, network)
    return ModelConfig(family=family, networks=networks, categories=tuple(categories), **values).to_json()


def changed_config(model: "TinyFiles", **options: Any) -> bytes:
    """The config.json of a model with other options, good or bad; ... takes an option away."""
    changed = json.loads(model.files[CONFIG]) | options
    return json.dumps({name: value for name, value in changed.items() if value is not ...}).encode()


@cache
def tiny_model(
    family: str = "dcgan",
    *,
    seed: int = 0,
    categories: tuple[str, ...] = CATEGORIES,
    acceptance: float = 0.5,
    truncation: float = 1.0,
    text_encoder: str | None = None,
    accent_colour: str | None = None,
    lines: bool = False,
) -> TinyFiles:
    """Random weights, strong enough that latents, categories, colours and images show in the pictures.

    One accent colour is read from titles where `accent_colour` names it; it is teal.

    About the share `acceptance` of its pictures passes.
    """
    network = {**_NETWORK, **_OF_FAMILY[family], "resolution": 32, "categories": len(categories)}
    encoder = TextEncoder(text_encoder, CPU) if text_encoder else None
    if encoder:
        network["text_size"] = encoder.size
    if accent_colour:
        network["accent_colours"] = 1
    if lines:
        network["lines"] = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = build(family, network)
        with torch.no_grad():
            for name, weight in generator.named_parameters():
                if weight.ndim == 4:
                    nn.init.kaiming_normal_(weight)
                elif name.startswith("norms") and weight.ndim == 2:
                    nn.init.normal_(weight, std=0.3)
                elif "accents" in name:
                    nn.init.normal_(weight)
    names = ColourNames(hexes={accent_colour: "#008080"} if accent_colour else {})
    config = config_json(
        family,
        network,
        categories,
        truncation=truncation,
        text=TextConfig(descriptions=False, colour_names=names),
        text_encoder=encoder.to_json() if encoder else None,
    )
    files = {
        CONFIG: config,
        "generator.safetensors": weights_of(generator),
        "discriminator.safetensors": weights_of(discriminator),
    }
    raw = TinyFiles(name="tiny" if family == "dcgan" else f"tiny-{family}", files=files)
    return raw.with_files(calibration=_calibration(raw.load(), acceptance))


@cache
def tiny_with_layouts(
    *,
    seed: int = 0,
    acceptance: float = 0.5,
    titles: tuple[str, str] | None = None,
    say_finish: bool = False,
    lines: bool = False,
) -> TinyFiles:
    """A tiny SPADE with a layout bank, a red and a blue one of each category.

    With `titles`, those of its red and its blue layouts, it reads texts. With `lines` it takes them, too.
    """
    encoder = DEFAULT_TEXT_ENCODER if titles else None
    plain = tiny_model("spade", seed=seed, text_encoder=encoder, lines=lines)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layout_predictor = LayoutPredictor(segmenter=fresh_segmenter(LAYOUT_CLASSES))
    numbers = range(2 * len(CATEGORIES))
    texts = torch.zeros(2, 0)
    if titles:
        texts = TextEncoder(DEFAULT_TEXT_ENCODER, CPU).embed(titles)
    labels = [1 + number // len(CATEGORIES) for number in numbers]
    known = LayoutBank(
        categories=(*CATEGORIES, *CATEGORIES),
        files=tuple(
            DrawingFiles(
                condition_file("layout", number, label, side=32), condition_file("sketch", number, side=32)
            )
            for number, label in zip(numbers, labels, strict=True)
        ),
        texts=texts.repeat_interleave(len(CATEGORIES), dim=0),
        say_finish=say_finish,
        labels=tuple((label,) for label in labels),
        colour_labels=ColourLabels(exact={"#B40000": 1, "#1E5AA8": 2}),
        classes=LAYOUT_CLASSES,
        temperature=0.1,
    )
    raw = TinyFiles(name="tiny-layouts", files=plain.files).with_files(
        config=changed_config(plain, layout_bank=0.1),
        layout_bank=known.to_file(),
        layout_predictor=layout_predictor.to_file(),
        calibration=None,
    )
    return raw.with_files(calibration=_calibration(raw.load(), acceptance))


@cache
def tiny_studio() -> TinyFiles:
    """A studio with a fresh generator, which cuts the product out on white, and a random mask network."""
    network = {"resolution": 64, "generator_channels": [4] * 4, "discriminator_channels": 4}
    network["categories"] = len(CATEGORIES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator, discriminator = build("studio", network)
        found = mask_network_file(MaskNetwork())
    files = {
        CONFIG: config_json("studio", network),
        "generator.safetensors": weights_of(generator),
        "discriminator.safetensors": weights_of(discriminator),
        MASK_NETWORK: found,
    }
    limits = dict.fromkeys(CATEGORIES, ANYTHING)
    logits = {name: [-1.0, 0.0, 1.0] * 4 for name in CATEGORIES}
    calibration = fit_calibration(
        real_logits=logits,
        generated_logits=logits,
        typical_logits={name: [-1000.0] for name in CATEGORIES},
        typical_passed={name: [True] for name in CATEGORIES},
        limits=limits,
    )
    raw = TinyFiles(name="tiny-studio", files=files)
    return raw.with_files(calibration=_rounded(calibration))


def nan_model(categories: tuple[str, ...] = CATEGORIES) -> TinyFiles:
    """The tiny model, except that its generator returns NaN."""
    files = tiny_model(categories=categories)
    return change_weights(files, "generator", lambda tensors: tensors["to_rgb.bias"].fill_(torch.nan))


def change_weights(
    model: TinyFiles, network: str, change: Callable[[dict[str, torch.Tensor]], object]
) -> TinyFiles:
    """The model with other weights in `generator` or `discriminator`; `change` alters them in place."""
    tensors = load(model.files[f"{network}.safetensors"])
    change(tensors)
    return model.with_files(**{network: save(tensors)})


class MakesAFolder:
    """Bait: its pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def products(category: str, colour_hexes: Sequence[str | None]) -> list[ProductConditions]:
    """Products of one category in some colours."""
    return [ProductConditions(category=category, colour_hex=colour_hex) for colour_hex in colour_hexes]


def condition_file(kind: ImageCondition, number: int, label: int = 1, *, side: int = 48) -> bytes:
    """A PNG of `side` pixels: a product near the middle, as a layout (labels 0 and `label`) or a drawing."""
    image = Image.new("L", (side, side), 0 if kind == "layout" else 255)
    box = (4 + number % 8, 6 + number % 5, 30 + number % 12, 34 + number % 7)
    # Ink fills the drawing. In an area between lines an untrained network mixes colours, and a check rejects
    # the picture.
    ImageDraw.Draw(image).rectangle(box, fill=label if kind == "layout" else 0)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def weights_of(network: nn.Module) -> bytes:
    """The weights as a safetensors file."""
    return save({key: value.contiguous() for key, value in network.state_dict().items()})


def _rounded(calibration: Calibration) -> bytes:
    """The file with three digits, so that CPUs that round differently give a model the same version.

    The seeds of its pictures follow from the version.
    """
    content = calibration.to_json()
    return json.dumps(json.loads(content, parse_float=lambda text: float(f"{float(text):.3g}"))).encode()


def _calibration(model: Model, acceptance: float) -> bytes:
    logits = {}
    for category in model.categories:
        seeds = range(64)
        colours = [COLOURS[seed % len(COLOURS)] for seed in seeds]
        wanted = products(category, colours)
        if kind := model.image_condition:
            images = [READERS[kind](condition_file(kind, seed), model.resolution) for seed in seeds]
            wanted = [replace(each, image=image) for each, image in zip(wanted, images, strict=True)]
        logits[category] = model.generate(seeds, wanted, 64).logits.tolist()
    spread = max(max(each) - min(each) for each in logits.values())
    calibration = fit_calibration(
        real_logits={name: [logit + spread / 2 for logit in each] for name, each in logits.items()},
        generated_logits=logits,
        typical_logits=logits,
        typical_passed={name: [True] * len(each) for name, each in logits.items()},
        limits=dict.fromkeys(model.categories, ANYTHING),
        settings=CalibrationSettings(acceptance=acceptance),
    )
    return _rounded(calibration)
