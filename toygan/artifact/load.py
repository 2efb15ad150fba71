"""Loads a model from its files."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils import parametrize

from toygan.artifact.calibration import Calibration, require_calibration
from toygan.artifact.checked import is_checked, remember_checked
from toygan.artifact.config import ModelConfig, config_of
from toygan.artifact.enhancer import Enhancer, load_enhancer
from toygan.artifact.files import ModelFiles
from toygan.artifact.model import Model
from toygan.artifact.parts import (
    load_layout_bank,
    load_layout_predictor,
    load_mask_network,
    load_product_finder,
    load_text_bank,
)
from toygan.artifact.scope import ModelScope
from toygan.artifact.weights import check_weights, load_weights
from toygan.conditions.text import TextEncoder
from toygan.errors import ModelError
from toygan.models.shapes import shapes_alone

if TYPE_CHECKING:
    from toygan.artifact.compiled_extractor import CompiledExtractor
    from toygan.artifact.probe import Probe


def load_model(source: ModelFiles, device: torch.device) -> Model:
    """Builds the networks of a model version and fills in its weights.

    Nothing is unpickled. Raises ModelError for a damaged config, unknown family or option, and weights of
    other shapes.
    """
    config = config_of(source)
    with torch.random.fork_rng(devices=[]):
        generator, discriminator = config.build()
    _with_weights(source, generator, discriminator, load_weights)
    for network in (generator, discriminator):
        _fold_parametrizations(network)
        network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    calibration = _read_calibration(source)
    enhancer = _enhancer(source, config, device)
    resolution = config.resolution if enhancer is None else enhancer.resolution
    return Model(
        name=source.name,
        version=source.version,
        config=config,
        enhancer=enhancer,
        truncation=config.truncation,
        generator=generator,
        discriminator=discriminator,
        text_encoder=_text_encoder(source, config, device),
        layout_bank=load_layout_bank(source.name, source.files, config),
        layout_predictor=load_layout_predictor(source.name, source.files, config),
        product_finder=load_product_finder(source.name, source.files, config, device),
        calibration=calibration,
        probe=_load_probe(calibration, resolution, device),
        colour_profile=None if calibration is None else calibration.colour_profile,
        device=device,
    )


def read_scope(source: ModelFiles) -> ModelScope:
    """Returns the conditions that a model supports.

    Makes the same checks as `load_model`, without loading weights. Each machine checks a version only once.
    Raises ModelError for an unusable model, and for a model that is not calibrated.
    """
    config = config_of(source)
    if not is_checked(source.version):
        _check(source, config)
        remember_checked(source.version)
    return ModelScope(
        categories=frozenset(config.categories),
        layout_classes=config.networks.layout_classes,
        takes_drawings=config.takes_drawings,
        colour_names=config.text.colour_names,
    )


def _check(source: ModelFiles, config: ModelConfig) -> None:
    with shapes_alone():
        generator, discriminator = config.build()
    _with_weights(source, generator, discriminator, check_weights)
    load_text_bank(source.name, source.files, config)
    load_layout_bank(source.name, source.files, config)
    load_layout_predictor(source.name, source.files, config)
    load_mask_network(source.name, source.files, config)
    _enhancer(source, config, torch.device("cpu"))
    require_calibration(source.name, _read_calibration(source), config.categories)


def _with_weights(
    source: ModelFiles,
    generator: nn.Module,
    discriminator: nn.Module,
    use: Callable[[nn.Module, Mapping[str, Tensor]], None],
) -> None:
    """Calls `use(network, weights)` for both networks.

    The name of the file is added to a ModelError of `use`.
    """
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        where = f"{name}.safetensors of the model {source.name}"
        try:
            tensors = load(source.files[f"{name}.safetensors"])
        except (KeyError, SafetensorError) as error:
            raise ModelError(f"{where} cannot be read: {error}") from error
        try:
            use(network, tensors)
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from None


def _enhancer(source: ModelFiles, config: ModelConfig, device: torch.device) -> Enhancer | None:
    """Loads the enhancer. Raises ModelError if it is damaged or takes pictures of another size."""
    enhancer = load_enhancer(source.name, source.files, device)
    if enhancer is not None and enhancer.small_resolution != config.resolution:
        raise ModelError(
            f"the model {source.name} generates pictures of {config.resolution} pixels, but its enhancer "
            f"takes pictures of {enhancer.small_resolution}; take another enhancer"
        )
    return enhancer


def _read_calibration(source: ModelFiles) -> Calibration | None:
    content = source.files.get("calibration.json")
    return None if content is None else Calibration.from_json(content)


def _load_probe(calibration: Calibration | None, resolution: int, device: torch.device) -> "Probe | None":
    if calibration is None or calibration.probe is None:
        return None
    # These imports are slow, and only a model with a probe needs them.
    from toygan.artifact.probe import Probe

    if device.type == "cpu":
        side = calibration.probe.side
        return Probe(
            calibration.probe, _compiled_extractor(side, min(resolution, side), torch.get_num_threads())
        )
    from toygan.artifact.feature_extractor import FeatureExtractor

    probe = Probe(calibration.probe, FeatureExtractor(calibration.probe.side))
    return probe.to(device).to(memory_format=torch.channels_last)


@lru_cache(maxsize=2)
def _compiled_extractor(side: int, resolution: int, threads: int) -> "CompiledExtractor":
    """Returns the network that all probes of this size share.

    It runs on as many threads as torch has when it is loaded, so `threads` tells the networks apart.
    """
    from toygan.artifact.compiled_extractor import CompiledExtractor

    return CompiledExtractor(side, resolution)


def _text_encoder(source: ModelFiles, config: ModelConfig, device: torch.device) -> TextEncoder | None:
    """Returns the model's text encoder. Raises ModelError if its files have changed since the training."""
    if config.text_encoder is None:
        return None
    known = load_text_bank(source.name, source.files, config)
    return TextEncoder.from_json(config.text_encoder, device, known=known)


def _fold_parametrizations(network: nn.Module) -> None:
    """Replaces the weights by their spectrally normalised values, which every batch would otherwise compute
    again.
    """
    network.eval()  # in training mode, reading a weight would advance the power iteration
    for module in network.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def credit_of(models: Iterable[ModelFiles]) -> str | None:
    """Returns the attributions that the licences of the models' training pictures demand."""
    found = [credit for model in models if (credit := config_of(model).credit)]
    return " ".join(dict.fromkeys(found)) or None
