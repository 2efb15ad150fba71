"""A model ready to generate: both networks, their calibration, and one call from conditions to pictures."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils import parametrize

from toygan.approval.calibration import Calibration
from toygan.approval.colour_profile import ColourProfile
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.image import encode_images
from toygan.conditions.product import ProductConditions, encode_conditions
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_config import TextConfig
from toygan.data.layout_bank import KnownChoice, LayoutBank
from toygan.errors import ModelError
from toygan.generation.enhance import Enhancer, load_enhancer, resize_drawings
from toygan.images import from_uint8, to_uint8
from toygan.models import build, image_condition, network_config, required_condition
from toygan.models.layers import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    NetworkConfig,
    given_colours,
)
from toygan.models.shapes import shapes_alone
from toygan.planning.condition_files import ModelScope
from toygan.seeds import latent
from toygan.training.checkpoint import (
    load_layout_bank,
    load_layout_predictor,
    load_text_bank,
    text_config_of,
)
from toygan.training.layout_predictor import LayoutPredictor
from toygan.training.weights import check_weights, load_weights

if TYPE_CHECKING:
    from toygan.generation.probe import Probe

# Keys in the conditions of a metadata row.
LAYOUT_SIMILARITY: Final = "layout_similarity"
COLOUR_NAME: Final = "colour_name"  # the main colour as the catalog row writes it
COLOUR_SOURCE: Final = "colour_source"  # the column with the main colour; null where that is unknown
SHAPE_TEXT: Final = "shape_text"  # the text that chose the layout of the bank, if it differs from `text`


class ModelFiles(Protocol):
    """The files of one model version by name; the registry provides them."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def files(self) -> Mapping[str, bytes]: ...


@dataclass(frozen=True, kw_only=True)
class GeneratedBatch:
    """One batch of pictures and scores from the device."""

    pixels: NDArray[np.uint8]  # (B, R, R, 3)
    logits: NDArray[np.float32]  # (B,)
    finite: NDArray[np.bool_]  # (B,), False where a pixel or the logit is NaN or infinite
    # B similarities of the product's text to the text of its layout in the bank; None without a layout bank.
    layout_similarities: Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class Model:
    """Networks in evaluation mode on one device, float32: pictures must agree across batches and devices."""

    name: str
    version: str
    family: str
    resolution: int  # pixels a side of the final pictures
    drawn_resolution: int  # pixels a side of the generator's output; smaller if there is an enhancer
    categories: tuple[str, ...]
    truncation: float  # from 0 to 1; below 1 trades variety for typical pictures
    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    text_encoder: TextEncoder | None  # None: the model takes no text
    text_config: TextConfig
    image_condition: ImageCondition | None  # the image that each product must come with
    learns_from: ImageCondition | None  # the image input of the networks, from the product or the bank
    learns_from_lines: bool  # whether the networks take a sketch beside the layout
    layout_bank: LayoutBank | None  # the source of layouts for products without one
    layout_predictor: LayoutPredictor | None  # predicts layouts of photos, for training and scoring
    enhancer: Enhancer | None  # enlarges the output of the generator
    calibration: Calibration | None
    probe: "Probe | None"  # None if the calibration has no probe
    colour_profile: ColourProfile | None  # from the calibration; None: colours are given unchanged
    device: torch.device

    def conditions_of(
        self,
        *,
        category: str,
        title: str | None,
        description: str | None,
        language: str,
        colour: str | None,
        colour_hex: str | None,
        finish: str | None,
    ) -> ProductConditions:
        """Returns a product's conditions without an image, and without text in an unsupported language."""
        words = self.text_config.words(
            title, description, colour=colour, colour_hex=colour_hex, finish=finish
        )
        is_read = self.text_encoder is not None and self.text_encoder.reads(language)
        return ProductConditions(
            category=category,
            colour_hex=colour_hex,
            text=words.text if is_read else None,
            shape_text=words.shape_text if is_read else None,
            accent_hexes=words.accent_hexes,
        )

    @property
    def shape_is_given(self) -> bool:
        """Whether a layout or sketch, of the product or from the bank, determines the shape."""
        return self.image_condition is not None or self.layout_bank is not None

    @property
    def engine(self) -> str:
        """The software for pictures and scores, with versions; the last bits of both depend on it."""
        scorer = None if self.probe is None else getattr(self.probe.extractor, "engine", None)
        generator = f"torch {torch.__version__}"
        return f"{generator}; score: {scorer}" if scorer else generator

    def require_calibration(self) -> Calibration:
        """Raises ModelError when the model is not calibrated for every one of its categories."""
        return _require_calibration(self.name, self.calibration, self.categories)

    @torch.inference_mode()
    def generate(
        self,
        seeds: Sequence[int],
        products: Sequence[ProductConditions],
        batch_size: int,
    ) -> GeneratedBatch:
        """Generates and scores one picture per seed and product, at most `batch_size` of them.

        If there is a colour profile, both networks take its corrected colours. The layout bank always takes
        the product's own colours.

        The batch is always padded to `batch_size`: kernels round differently for another shape, and the
        bytes of a picture must not depend on its batch-mates. The scored picture is the final one, in 8 bits.
        """
        wanted = len(seeds)
        padding = batch_size - wanted
        if padding < 0 or not wanted:
            raise ValueError(f"{wanted} pictures asked for; a batch holds 1 to {batch_size}")
        size = self.generator.latent_size
        rows = [*range(wanted), *[0] * padding]
        latents = np.stack([latent(seeds[row], size) for row in rows])
        conditions = encode_conditions(
            [products[row] for row in rows],
            categories=self.categories,
            text_encoder=self.text_encoder,
            image_condition=self.image_condition,
            accent_colours=self.text_config.accent_colours,
        )
        similarities: list[float | None] = [None] * wanted
        if self.layout_bank is not None:
            chosen = self._choose(self.layout_bank, seeds, products)
            similarities = [each.similarity for each in chosen]
            conditions["layout"] = encode_images("layout", [chosen[row].layout for row in rows])
            if self.learns_from_lines:
                conditions["sketch"] = encode_images("sketch", [chosen[row].lines for row in rows])
        if self.colour_profile is not None:
            conditions |= _corrected(
                conditions, self.colour_profile, [products[row].category for row in rows]
            )
        conditions = {name: value.to(self.device) for name, value in conditions.items()}
        images = self.generator.forward_truncated(
            torch.from_numpy(latents).to(self.device),
            resize_drawings(conditions, self.drawn_resolution),
            self.truncation,
        )
        pixels = to_uint8(images)
        if self.enhancer is not None:
            small = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            pixels = self._enlarged(self.enhancer, small[:wanted], conditions, batch_size)
        shown = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        logits = self.score(from_uint8(shown), conditions)
        finite = images.isfinite().flatten(1).all(1) & logits.isfinite()
        return GeneratedBatch(
            pixels=pixels[:wanted],
            logits=logits.cpu().numpy()[:wanted],
            finite=finite.cpu().numpy()[:wanted],
            layout_similarities=similarities,
        )

    @torch.inference_mode()
    def best_similarities(
        self, products: Sequence[ProductConditions], seeds: Sequence[Sequence[int]]
    ) -> list[float | None]:
        """Returns the text similarity of each product to its nearest layout in the bank, -1..1.

        `seeds` are the seeds of all pictures that may be generated for each product. A value is None if the
        model has no layout bank or the bank has no texts.
        """
        known = self.layout_bank
        if known is None:
            return [None] * len(products)
        texts = self._shape_texts(known, products)
        return [
            known.best_similarity(product, text, of_product, self.truncation)
            for product, text, of_product in zip(products, texts, seeds, strict=True)
        ]

    def _shape_texts(self, known: LayoutBank, products: Sequence[ProductConditions]) -> Tensor:
        if self.text_encoder is None:
            return torch.zeros(len(products), known.texts.shape[1])
        return self.text_encoder.embed([known.text_of(product) for product in products])

    def _choose(
        self, known: LayoutBank, seeds: Sequence[int], products: Sequence[ProductConditions]
    ) -> list[KnownChoice]:
        texts = self._shape_texts(known, products)
        return [
            known.choose(product, text, seed, self.truncation)
            for product, text, seed in zip(products, texts, seeds, strict=True)
        ]

    @torch.inference_mode()
    def score(self, images: Tensor, conditions: Conditions) -> Tensor:
        """Scores (B, 3, R, R) float32 pictures in [-1, 1]: logits (B,) that the calibration maps.

        The probe scores if there is one, else the discriminator. For photos, the conditions hold the colours
        of the catalog; for generated pictures, the colours that the generator took.
        """
        if self.probe is None:
            return self._discriminate(images, conditions)
        given = self._discriminate(images, conditions) if self.probe.uses_discriminator else None
        scores: Tensor = self.probe(images, given)
        return scores

    def _discriminate(self, images: Tensor, conditions: Conditions) -> Tensor:
        """Resizes the pictures to the discriminator's training resolution and returns its logits."""
        side = self.drawn_resolution
        if images.shape[-1] != side:
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False, antialias=True)
        logits: Tensor = self.discriminator(images, resize_drawings(conditions, side))
        return logits

    @staticmethod
    def _enlarged(
        enhancer: Enhancer, small: Tensor, conditions: Conditions, batch_size: int
    ) -> NDArray[np.uint8]:
        """Enlarges (N, 3, r, r) uint8 to (batch_size, R, R, 3); pads with copies, which saves time."""
        drawings = {name: conditions.get(name) for name in ("layout", "sketch")}
        large = enhancer.enlarge(small, layout=drawings["layout"], lines=drawings["sketch"])
        padding = large[:1].expand(batch_size - len(large), -1, -1, -1)
        return np.ascontiguousarray(torch.cat([large, padding]).permute(0, 2, 3, 1).numpy())


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
    load_enhancer(source.name, source.files, torch.device("cpu"))
    text_config = text_config_of(source.name, config)
    categories = config["categories"]
    _require_calibration(source.name, _read_calibration(source), categories)
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
    from toygan.generation.probe import Probe

    if device.type == "cpu" and calibration.probe.evidence == "deepest":
        from toygan.generation.compiled_extractor import CompiledExtractor

        return Probe(
            calibration.probe,
            CompiledExtractor(calibration.probe.side, min(resolution, calibration.probe.side)),
        )
    from toygan.generation.feature_extractor import FeatureExtractor

    probe = Probe(calibration.probe, FeatureExtractor(calibration.probe.side))
    return probe.to(device).to(memory_format=torch.channels_last)


def _corrected(
    conditions: Conditions, profile: ColourProfile, categories: Sequence[str]
) -> dict[str, Tensor]:
    """Returns the conditions that a colour profile changes or adds, on the CPU; one category per row."""
    named = given_colours(conditions)
    given = torch.from_numpy(profile.correct(named.numpy(), categories))
    corrected = {"colour": given[:, 0], "named_colours": named}
    if "accents" in conditions:
        corrected["accents"] = given[:, 1:].flatten(1)
    return corrected


def _require_calibration(
    model: str, calibration: Calibration | None, categories: Sequence[str]
) -> Calibration:
    remedy = "run `toygan calibrate` on it first"
    if calibration is None:
        raise ModelError(f"the model {model} is not calibrated; {remedy}")
    missing = sorted(set(categories) - calibration.categories.keys())
    if missing:
        raise ModelError(f"the model {model} is not calibrated for {', '.join(missing)}; {remedy}")
    return calibration


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
