"""A small model of every family, with random weights in all layers, and inputs for its networks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

import torch
from torch import nn

from tests.models import CATEGORIES, CPU, TinyFiles, config_json, weights_of
from toygan.approval.colour_profile import colour_profile_of
from toygan.artifact.colour_profile import ColourProfile
from toygan.artifact.enhancer import Enhancer
from toygan.artifact.files import CONFIG, MASK_NETWORK
from toygan.artifact.mask_network_file import mask_network_file
from toygan.artifact.model import Model
from toygan.conditions.colour import encode_colours
from toygan.conditions.colour_names import ColourNames
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_config import TextConfig
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.interchange.networks import Network
from toygan.models import build
from toygan.models.colour_map import ColourMap
from toygan.models.mask_network import MaskNetwork

LAYOUT_CLASSES = 6
PICTURES = 32
_NARROW: Mapping[str, object] = {
    "latent_size": 8,
    "condition_size": 8,
    "generator_channels": 4,
    "discriminator_channels": 4,
    "max_channels": 8,
}
_SPADE = {**_NARROW, "modulation_channels": 4, "layout_classes": LAYOUT_CLASSES}
_EVERYTHING = {"accent_colours": 2, "text_size": 384}
_OPTIONS: Mapping[str, tuple[str, dict[str, object]]] = {
    "mlp": ("mlp", {"generator_units": (16, 16), "discriminator_units": (8,), **_EVERYTHING}),
    "dcgan": ("dcgan", {**_NARROW, "whiten_text": True, **_EVERYTHING}),
    "stylegan": ("stylegan", {"style_size": 8, "channel_base": 64, "max_channels": 8, "condition_size": 8}),
    "projected": ("projected", {**_NARROW, "mapping_layers": 1}),
    "pix2pix": ("pix2pix", _NARROW),
    "pix2pix in two parts": (
        "pix2pix",
        {**_NARROW, "layout_classes": LAYOUT_CLASSES, "accent_colours": 2},
    ),
    "spade": ("spade", _SPADE),
    "studio": ("studio", {"generator_channels": (4, 6, 8, 8), "discriminator_channels": 4}),
    "spade in colours": (
        "spade",
        {**_SPADE, **_EVERYTHING, "colour_map": True, "lines": True, "padding_mode": "replicate"},
    ),
}


def _fill(network: nn.Module) -> None:
    """Fills all weights and statistics, so that no layer hides another."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim >= 2:
                nn.init.normal_(value, std=1.3 / max(1, value[0].numel()) ** 0.5)
            else:
                value.add_(0.1 * torch.randn_like(value))
            if "noise_strength" in name:
                value.fill_(0.3)
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(std=0.2)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
        for module in network.modules():
            if isinstance(module, ColourMap):
                module.fit(encode_colours(["#B40000", "#1E5AA8", "#FAC80A"]), torch.tensor([1, 2, 3]))


def filled_model(family: str, network: Mapping[str, object]) -> Model:
    """A model with random weights in all layers, its latents truncated."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        generator, discriminator = build(family, network)
        _fill(generator)
        mask_network = mask_network_file(MaskNetwork())
    encoder = TextEncoder(DEFAULT_TEXT_ENCODER, CPU) if "text_size" in network else None
    config = config_json(
        family,
        network,
        truncation=0.7,
        text=TextConfig(descriptions=False, colour_names=ColourNames(hexes={"teal": "#008080"})),
        text_encoder=encoder.to_json() if encoder else None,
    )
    files = {
        CONFIG: config,
        "generator.safetensors": weights_of(generator),
        "discriminator.safetensors": weights_of(discriminator),
    }
    if family == "studio":
        files[MASK_NETWORK] = mask_network
    return TinyFiles(name=family, files=files).load()


@cache
def model_of(case: str) -> Model:
    """The model of a case of `CASES`, with corrected colours in half of the cases."""
    family, options = _OPTIONS[case]
    model = filled_model(family, {"resolution": 32, "categories": len(CATEGORIES), **options})
    model = replace(model, product_finder=None)  # its network is large
    return replace(model, colour_profile=_profile()) if " " in case else model


def _profile() -> ColourProfile:
    pairs = [("#B40000", "#C02010"), ("#1E5AA8", "#2A6AB0"), ("#FAC80A", "#F0C020"), ("#00852B", "#109040")]
    return colour_profile_of({CATEGORIES[0]: pairs, CATEGORIES[2]: pairs[:2]})


@cache
def enlarging_model() -> Model:
    """A spade of 32 pixels whose pictures an enhancer enlarges to 64."""
    options = {"resolution": 64, "small_resolution": 32, "categories": 1, "generator_channels": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        generator, _ = build("enhancer", options)
        _fill(generator)
    generator.eval().requires_grad_(False)
    enhancer = Enhancer(small_resolution=32, resolution=64, generator=generator, device=CPU)
    return replace(model_of("spade"), enhancer=enhancer)


CASES: Mapping[str, Callable[[], Model]] = {
    **{case: partial(model_of, case) for case in _OPTIONS},
    "enhancer": enlarging_model,
}


def inputs_of(network: Network, pictures: int = PICTURES) -> dict[str, torch.Tensor]:
    """Random inputs of a network, half of the colours and texts unknown."""
    rng = torch.Generator().manual_seed(3)
    generated: dict[str, torch.Tensor] = {}
    for port in network.inputs:
        shape = (pictures, *port.shape)
        if port.name == "category":
            generated[port.name] = torch.arange(pictures) % len(CATEGORIES)
        elif port.dtype == "int64":
            coarse = torch.randint(LAYOUT_CLASSES, (pictures, 1, 8, 8), generator=rng).float()
            generated[port.name] = nn.functional.interpolate(coarse, size=port.shape)[:, 0].long()
        elif port.name in ("colour", "accents"):
            colours = torch.rand((pictures, port.shape[0] // 4, 4), generator=rng) * 1.6 - 0.8
            colours[..., 3] = 1.0
            colours[::2, -1] = 0.0
            generated[port.name] = colours.flatten(1)
        elif port.name == "text":
            texts = nn.functional.normalize(torch.randn(shape, generator=rng))
            texts[::2] = 0.0
            generated[port.name] = texts
        elif port.name in ("latents", "noise"):
            generated[port.name] = torch.randn(shape, generator=rng)
        else:
            generated[port.name] = torch.rand(shape, generator=rng) * 2 - 1
    return generated
