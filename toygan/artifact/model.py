"""A model ready to generate: both networks, their calibration, and one call from conditions to pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from toygan.artifact.calibration import Calibration, require_calibration
from toygan.artifact.colour_profile import ColourProfile
from toygan.artifact.config import ModelConfig
from toygan.artifact.enhancer import Enhancer, resize_drawings
from toygan.artifact.layout_bank import KnownChoice, LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.artifact.product_finder import FramedSnapshot, ProductFinder
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.image import FRAMED_CHANNELS, encode_images
from toygan.conditions.product import ProductConditions, encode_conditions
from toygan.conditions.product_shape import product_shapes
from toygan.conditions.shape import Shape
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_config import TextConfig
from toygan.images import from_uint8, to_uint8
from toygan.models.layers import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    Conditions,
    given_colours,
)
from toygan.seeds import latent

if TYPE_CHECKING:
    from toygan.artifact.probe import Probe

# Keys in the conditions of a metadata row.
SNAPSHOT: Final = "snapshot"  # how the product was found in its snapshot
LAYOUT_SIMILARITY: Final = "layout_similarity"
COLOUR_NAME: Final = "colour_name"  # the main colour as the catalog row writes it
COLOUR_SOURCE: Final = "colour_source"  # the column with the main colour; null where that is unknown
SHAPE_TEXT: Final = "shape_text"  # the text that chose the layout of the bank, if it differs from `text`


@dataclass(frozen=True, kw_only=True)
class GeneratedBatch:
    """One batch of generated pictures and their scores."""

    pixels: NDArray[np.uint8]  # (B, R, R, 3)
    logits: NDArray[np.float32]  # (B,)
    finite: NDArray[np.bool_]  # (B,), False where a pixel or the logit is NaN or infinite
    # The framed snapshots of the B products; None for a model that needs no snapshots.
    snapshots: Sequence[FramedSnapshot | None]
    # For each of the B products, the similarity of its text to the text of the chosen layout; None without a
    # layout bank.
    layout_similarities: Sequence[float | None]
    # see `toygan.conditions.product_shape`; None without layouts and sketches
    shapes: Sequence[Shape | None]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The networks of a model and what belongs to them, ready to generate.

    The networks are in evaluation mode, on one device, and in float32, because pictures must agree across
    batches and devices.
    """

    name: str
    version: str
    config: ModelConfig
    truncation: float  # the value in the config, unless a caller sets another one
    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    text_encoder: TextEncoder | None  # None if the model takes no text
    layout_bank: LayoutBank | None  # gives layouts to products without a layout
    layout_predictor: LayoutPredictor | None  # predicts layouts of photos, for training and scoring
    product_finder: ProductFinder | None  # frames snapshots; None if the model needs none
    enhancer: Enhancer | None  # enlarges the pictures of the generator
    calibration: Calibration | None
    probe: "Probe | None"  # None if the calibration has no probe
    colour_profile: ColourProfile | None  # corrects the given colours; None if they are not corrected
    device: torch.device

    @property
    def family(self) -> str:
        return self.config.family

    @property
    def categories(self) -> tuple[str, ...]:
        return self.config.categories

    @property
    def resolution(self) -> int:
        """The side of the final pictures in pixels."""
        return self.generated_resolution if self.enhancer is None else self.enhancer.resolution

    @property
    def generated_resolution(self) -> int:
        """The side in pixels of the generator's pictures.

        It is less than `resolution` if there is an enhancer.
        """
        return self.config.resolution

    @property
    def text_config(self) -> TextConfig:
        return self.config.text

    @property
    def image_condition(self) -> ImageCondition | None:
        """The type of image that each product must have."""
        return self.config.required_condition

    @property
    def learns_from(self) -> ImageCondition | None:
        """The type of image that the networks take, from the product or from the layout bank."""
        return self.config.networks.image_condition

    @property
    def learns_from_lines(self) -> bool:
        """Whether the networks take a sketch beside the layout."""
        return self.config.networks.lines

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
        """Returns a product's conditions without an image.

        If the text encoder does not support the language, they have no text either.
        """
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
        """Whether the shape is given by an image of the product or by a layout of the bank."""
        return self.image_condition is not None or self.layout_bank is not None

    @property
    def may_vary(self) -> bool:
        """Whether another seed gives another picture."""
        return self.generator.latent_size > 0

    @property
    def engine(self) -> str:
        """The libraries that generate and score, with their versions.

        The last bits of results depend on these.
        """
        scorer = None if self.probe is None else getattr(self.probe.extractor, "engine", None)
        generator = f"torch {torch.__version__}"
        return f"{generator}; score: {scorer}" if scorer else generator

    def require_calibration(self) -> Calibration:
        """Returns the calibration. Raises ModelError if it lacks a category of the model."""
        return require_calibration(self.name, self.calibration, self.categories)

    @torch.inference_mode()
    def generate(
        self,
        seeds: Sequence[int],
        products: Sequence[ProductConditions],
        batch_size: int,
    ) -> GeneratedBatch:
        """Generates and scores one picture for each pair of seed and product, at most `batch_size` pictures.

        If there is a colour profile, both networks take its corrected colours. The layout bank always takes
        the product's own colours.

        The batch is always padded to `batch_size`. For another shape kernels round differently, but the bytes
        of a picture must not depend on the rest of its batch. The score is that of the final picture in 8
        bits.
        """
        wanted = len(seeds)
        padding = batch_size - wanted
        if padding < 0 or not wanted:
            raise ValueError(f"{wanted} pictures are wanted; a batch holds 1 to {batch_size}")
        rows = [*range(wanted), *[0] * padding]
        snapshots = [self._framed(product) for product in products]
        products = list(map(_with_snapshot, products, snapshots))
        latents = np.stack([latent(seeds[row], self.generator.latent_size) for row in rows])
        conditions = encode_conditions(
            [products[row] for row in rows],
            categories=self.categories,
            text_encoder=self.text_encoder,
            image_condition=self.image_condition,
            accent_colours=self.text_config.accent_colours,
        )
        chosen = self._choose(seeds, products)
        if chosen is not None:
            drawings = [self.drawings_of(each) for each in chosen]
            for name in drawings[0]:
                conditions[name] = torch.cat([drawings[row][name] for row in rows])
        if self.colour_profile is not None:
            conditions |= _corrected(
                conditions, self.colour_profile, [products[row].category for row in rows]
            )
        conditions = {name: value.to(self.device) for name, value in conditions.items()}
        images = self.generator.forward_truncated(
            torch.from_numpy(latents).to(self.device),
            resize_drawings(conditions, self.generated_resolution),
            self.truncation,
        )
        pixels = to_uint8(images)
        if self.enhancer is not None:
            small = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            pixels = self.enhancer.enlarge_batch(small[:wanted], conditions, batch_size)
        shown = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        logits = self.score(from_uint8(shown), conditions)
        finite = images.isfinite().flatten(1).all(1) & logits.isfinite()
        return GeneratedBatch(
            pixels=pixels[:wanted],
            logits=logits.cpu().numpy()[:wanted],
            finite=finite.cpu().numpy()[:wanted],
            snapshots=snapshots,
            layout_similarities=[each.similarity for each in chosen] if chosen else [None] * wanted,
            shapes=product_shapes(conditions)[:wanted],
        )

    def _framed(self, product: ProductConditions) -> FramedSnapshot | None:
        """Frames the product's snapshot.

        The snapshot of a training photo has a mask, because it is framed already; it stays as it is.
        """
        if self.product_finder is None or product.image is None:
            return None
        if product.image.shape[-1] == FRAMED_CHANNELS:
            return FramedSnapshot.of(product.image)
        return self.product_finder.frame(product.image, self.resolution)

    @torch.inference_mode()
    def best_similarities(
        self, products: Sequence[ProductConditions], seeds: Sequence[Sequence[int]]
    ) -> list[float | None]:
        """Returns, for each product, the largest text similarity, -1..1, among its possible pictures.

        `seeds` are the seeds of all pictures that may be generated for each product. Each seed chooses a
        layout of the bank. A value is None if the model has no layout bank, if the bank has no texts, or
        if the product has a drawing of its own.
        """
        known = self.layout_bank
        if known is None:
            return [None] * len(products)
        texts = self._shape_texts(known, products)
        return [
            None
            if product.drawing is not None
            else known.best_similarity(product, text, of_product, self.truncation)
            for product, text, of_product in zip(products, texts, seeds, strict=True)
        ]

    def _shape_texts(self, known: LayoutBank, products: Sequence[ProductConditions]) -> Tensor:
        if self.text_encoder is None:
            return torch.zeros(len(products), known.texts.shape[1])
        return self.text_encoder.embed([known.text_of(product) for product in products])

    def _choose(
        self, seeds: Sequence[int], products: Sequence[ProductConditions]
    ) -> list[KnownChoice] | None:
        """Returns for each picture the product's own drawing, else one of the bank; None without a bank."""
        known = self.layout_bank
        if known is None:
            return None
        texts = self._shape_texts(known, products)
        return [
            known.choose(product, text, seed, self.truncation)
            if product.drawing is None
            else KnownChoice(*product.drawing, similarity=None)
            for product, text, seed in zip(products, texts, seeds, strict=True)
        ]

    def drawings_of(self, choice: KnownChoice) -> dict[str, Tensor]:
        """Returns the layout in the final picture's resolution, with the lines if the networks take lines.

        `layout` is (1, R, R) int64, `sketch` is (1, 1, R, R) float32.
        """
        drawings = {"layout": encode_images("layout", [choice.layout])}
        if self.learns_from_lines:
            drawings["sketch"] = encode_images("sketch", [choice.lines])
        return resize_drawings(drawings, self.resolution)

    @torch.inference_mode()
    def score(self, images: Tensor, conditions: Conditions) -> Tensor:
        """Scores (B, 3, R, R) float32 pictures in [-1, 1]. Returns logits (B,), which the calibration maps to
        `p_real`.

        The probe scores the pictures, or the discriminator if there is no probe. The `conditions` of photos
        have the colours of the catalog. Those of generated pictures have the colours that the generator got.
        """
        if self.probe is None:
            return self._discriminate(images, conditions)
        scores: Tensor = self.probe(images)
        return scores

    def _discriminate(self, images: Tensor, conditions: Conditions) -> Tensor:
        """Resizes the pictures to the discriminator's training resolution and returns its logits."""
        side = self.generated_resolution
        if images.shape[-1] != side:
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False, antialias=True)
        logits: Tensor = self.discriminator(images, resize_drawings(conditions, side))
        return logits


def _with_snapshot(product: ProductConditions, snapshot: FramedSnapshot | None) -> ProductConditions:
    return product if snapshot is None else replace(product, image=snapshot.pixels)


def _corrected(
    conditions: Conditions, profile: ColourProfile, categories: Sequence[str]
) -> dict[str, Tensor]:
    """Returns the conditions that a colour profile changes or adds, on the CPU.

    `categories` has one name for each row of the conditions.
    """
    named = given_colours(conditions)
    given = torch.from_numpy(profile.correct(named.numpy(), categories))
    corrected = {"colour": given[:, 0], "named_colours": named}
    if "accents" in conditions:
        corrected["accents"] = given[:, 1:].flatten(1)
    return corrected
