"""Loads a model from its files."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils import parametrize

from toygan.artifact.calibration import Calibration, require_calibration
from toygan.artifact.enhancer import load_enhancer
from toygan.artifact.files import ModelFiles
from toygan.artifact.model import Model
from toygan.artifact.parts import (
    load_layout_bank,
    load_layout_predictor,
    load_product_finder,
    load_text_bank,
    text_config_of,
)
from toygan.artifact.scope import ModelScope
from toygan.artifact.weights import check_weights, load_weights
from toygan.conditions.text import TextEncoder
from toygan.errors import ModelError
from toygan.models import build, image_condition, network_config, required_condition
from toygan.models.layers import (
    NetworkConfig,
)
from toygan.models.shapes import shapes_alone

if TYPE_CHECKING:
    from toygan.artifact.probe import Probe


def load_model(source: ModelFiles, device: torch.device) -> Model:
    """Builds the networks of a model version and fills in its weights.

    Nothing is unpickled. Raises ModelError for a damaged config, unknown family or option, and weights of
    other shapes.
    """
    config = read_config(source)
    try:
        _check_config(config)
        with torch.random.fork_rng(devices=[]):
            generator, discriminator = build(config["family"], config["network"])
        truncation = float(config.get("truncation", 1.0))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_model(source, error) from error
    _with_weights(source, generator, discriminator, load_weights)
    for network in (generator, discriminator):
        _fold_parametrizations(network)
        network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    calibration = _read_calibration(source)
    enhancer = load_enhancer(source.name, source.files, device)
    if enhancer is not None and enhancer.small_resolution != config["resolution"]:
        raise ModelError(
            f"the model {source.name} generates {config['resolution']} pixels, its enhancer takes "
            f"{enhancer.small_resolution}; take another enhancer"
        )
    resolution = config["resolution"] if enhancer is None else enhancer.resolution
    return Model(
        name=source.name,
        version=source.version,
        family=config["family"],
        resolution=resolution,
        drawn_resolution=config["resolution"],
        enhancer=enhancer,
        categories=tuple(config["categories"]),
        truncation=truncation,
        generator=generator,
        discriminator=discriminator,
        text_encoder=_text_encoder(source, config, device),
        text_config=text_config_of(source.name, config),
        image_condition=required_condition(config),
        learns_from=image_condition(config["family"]),
        learns_from_lines=bool(config["network"].get("lines")),
        layout_bank=load_layout_bank(source.name, source.files, config),
        layout_predictor=load_layout_predictor(source.name, source.files, config),
        product_finder=load_product_finder(source.name, source.files, config, device),
        calibration=calibration,
        probe=_load_probe(calibration, resolution, device),
        colour_profile=None if calibration is None else calibration.colour_profile,
        device=device,
    )


def read_scope(source: ModelFiles) -> ModelScope:
    """Returns the conditions that a model supports. Makes the checks of `load_model` without loading weights.

    Raises ModelError, also for a model that is not calibrated.
    """
    config = read_config(source)
    try:
        networks = _check_config(config)
        with shapes_alone():
            generator, discriminator = build(config["family"], config["network"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_model(source, error) from error
    _with_weights(source, generator, discriminator, check_weights)
    load_text_bank(source.name, source.files, config)
    load_layout_bank(source.name, source.files, config)
    load_layout_predictor(source.name, source.files, config)
    load_product_finder(source.name, source.files, config, torch.device("cpu"))
    load_enhancer(source.name, source.files, torch.device("cpu"))
    text_config = text_config_of(source.name, config)
    categories = config["categories"]
    require_calibration(source.name, _read_calibration(source), categories)
    scope = ModelScope(categories=frozenset(categories), colour_names=text_config.colour_names)
    classes: int = getattr(networks, "layout_classes", scope.layout_classes)
    return replace(scope, layout_classes=classes)


def _with_weights(
    source: ModelFiles,
    generator: nn.Module,
    discriminator: nn.Module,
    use: Callable[[nn.Module, Mapping[str, Tensor]], None],
) -> None:
    """Calls `use(network, weights)` for both networks; its ModelError gets the name of the file."""
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


def _no_model(source: ModelFiles, error: Exception) -> ModelError:
    return ModelError(f"config.json of the model {source.name} does not describe a model: {error!r}")


def _read_calibration(source: ModelFiles) -> Calibration | None:
    content = source.files.get("calibration.json")
    return None if content is None else Calibration.from_json(content)


def _load_probe(calibration: Calibration | None, resolution: int, device: torch.device) -> "Probe | None":
    if calibration is None or calibration.probe is None:
        return None
    # The imports are slow and not always needed.
    from toygan.artifact.probe import Probe

    if device.type == "cpu" and calibration.probe.evidence == "deepest":
        from toygan.artifact.compiled_extractor import CompiledExtractor

        return Probe(
            calibration.probe,
            CompiledExtractor(calibration.probe.side, min(resolution, calibration.probe.side)),
        )
    from toygan.artifact.feature_extractor import FeatureExtractor

    probe = Probe(calibration.probe, FeatureExtractor(calibration.probe.side))
    return probe.to(device).to(memory_format=torch.channels_last)


def _text_encoder(source: ModelFiles, config: Mapping[str, Any], device: torch.device) -> TextEncoder | None:
    """Returns the encoder that the model was trained with; raises ModelError if that encoder has changed."""
    if not config["network"].get("text_size"):
        return None
    try:
        return TextEncoder.from_json(
            config["text_encoder"], device, known=load_text_bank(source.name, source.files, config)
        )
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"config.json of the model {source.name} does not say how texts are read: {error!r}"
        ) from error


def read_config(source: ModelFiles) -> dict[str, Any]:
    """Returns the content of config.json; raises ModelError if it is no JSON object."""
    try:
        config = json.loads(source.files["config.json"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"config.json of the model {source.name} cannot be read: {error!r}") from error
    if not isinstance(config, dict):
        raise ModelError(
            f"config.json of the model {source.name} must hold an object, not {type(config).__name__}"
        )
    return config


def _check_config(config: Mapping[str, Any]) -> NetworkConfig:
    """Returns the config of the networks; raises ValueError if its names or numbers do not fit the model."""
    required_condition(config)  # refuses an enhancer
    networks, categories = network_config(config["family"], config["network"]), config["categories"]
    if not isinstance(categories, list) or not all(isinstance(name, str) for name in categories):
        raise ValueError(f"categories is {categories!r}; it must be a list of names")
    if len(categories) != networks.categories:
        raise ValueError(f"it names {len(categories)} categories, its networks know {networks.categories}")
    if config["resolution"] != networks.resolution:
        raise ValueError(
            f"its resolution is {config['resolution']}, that of its networks {networks.resolution}"
        )
    return networks


def _fold_parametrizations(network: nn.Module) -> None:
    """Writes spectral normalisation into the weights; otherwise every batch would compute it again."""
    network.eval()  # in training mode, reading a weight would advance the power iteration
    for module in network.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def credit_of(models: Iterable[ModelFiles]) -> str | None:
    """Returns the attributions that the licences of the models' training pictures demand."""
    found = [credit for model in models if (credit := read_config(model).get("credit"))]
    return " ".join(dict.fromkeys(found)) or None
