"""The objectives of a training step: one list for each network.

An objective is a weight and a function of the step's inputs. `discriminator_objectives` and
`generator_objectives` make the lists from the settings. `weighted_sum` adds up the objectives of a list; the
step minimises this sum.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn

from toygan.data.augment import Augmentation
from toygan.models.layers import (
    ConditionalDiscriminator,
    Conditions,
    DiscriminatorOutput,
    LayoutPredictingGenerator,
    StyledGenerator,
)
from toygan.models.studio import snapshot_and_mask
from toygan.training.auxiliary_classifier import AuxiliaryClassifier, semantic_loss
from toygan.training.batches import Batch
from toygan.training.config import ObjectiveSettings
from toygan.training.losses import (
    LOSSES,
    AdversarialLoss,
    content_loss,
    detail_energy_loss,
    detail_loss,
    feature_matching_loss,
    gradient_loss,
    path_length_penalty,
    path_lengths,
    perceptual_loss,
    product_colour_loss,
    r1_penalty,
    r2_penalty,
    reconstruction_loss,
    structure_loss,
)
from toygan.training.sample import Latents
from toygan.training.state import TrainState

if TYPE_CHECKING:
    from toygan.models.backbone import Backbone

PATH_LENGTH_EVERY_STEPS = 4  # number of steps from one path length penalty to the next
PATH_LENGTH_DECAY = 0.01  # the share that a new value has in the running mean: Karras et al. 2020, appendix B

Inputs = TypeVar("Inputs")


@dataclass(frozen=True, kw_only=True)
class Objective(Generic[Inputs]):
    """One term of a loss.

    A term with `every_steps` N counts only in every N-th step, and has N times its weight there (lazy
    regularisation, Karras et al. 2020, appendix B). The paper makes a separate step for such a term. Here the
    term is added to the loss of a normal step, so the paper's corrections of Adam's learning rate and betas
    are not needed.
    """

    name: str
    weight: float
    value: Callable[[Inputs], Tensor]  # a scalar
    every_steps: int = 1
    in_float32: bool = False  # true for squared gradients, which exceed the range of float16


def weighted_sum(
    objectives: Sequence[Objective[Inputs]], inputs: Inputs, *, step: int, autocast: torch.autocast
) -> Tensor:
    """Returns the sum of the objectives that are due in `step`, which counts from 0."""
    terms = []
    for each in objectives:
        if step % each.every_steps == 0:
            with nullcontext() if each.in_float32 else autocast:
                terms.append(each.every_steps * (each.weight * each.value(inputs)))
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Augmented pictures and their conditions, as a discriminator gets them."""

    images: Tensor  # (B, 3, R, R) float32 in [-1, 1]
    conditions: Conditions

    @classmethod
    def of(cls, images: Tensor, conditions: Conditions, augmentation: Augmentation) -> "Shown":
        return cls(images=augmentation.of_pictures(images), conditions=augmentation.of_conditions(conditions))


@dataclass(frozen=True, kw_only=True)
class DiscriminatorInputs:
    """The inputs of the discriminator's objectives."""

    discriminator: ConditionalDiscriminator
    real: Shown
    generated: Shown
    real_logits: tuple[Tensor, ...]  # one tensor for each head
    generated_logits: tuple[Tensor, ...]


def discriminator_objectives(settings: ObjectiveSettings) -> list[Objective[DiscriminatorInputs]]:
    """Returns the adversarial loss and the gradient penalties of the settings."""
    penalty = partial(
        Objective[DiscriminatorInputs], every_steps=settings.penalty_every_steps, in_float32=True
    )
    objectives = [
        Objective[DiscriminatorInputs](
            name="adversarial", weight=1.0, value=partial(_discriminator_loss, LOSSES[settings.loss])
        ),
        penalty(name="r1", weight=settings.r1_gamma, value=_r1),
        penalty(name="r2", weight=settings.r2_gamma, value=_r2),
    ]
    return [each for each in objectives if each.weight]


def _discriminator_loss(loss: AdversarialLoss, inputs: DiscriminatorInputs) -> Tensor:
    pairs = zip(inputs.real_logits, inputs.generated_logits, strict=True)
    return _mean([loss.discriminator(real, generated) for real, generated in pairs])


def _r1(inputs: DiscriminatorInputs) -> Tensor:
    return r1_penalty(*_with_gradients(inputs.discriminator, inputs.real))


def _r2(inputs: DiscriminatorInputs) -> Tensor:
    return r2_penalty(*_with_gradients(inputs.discriminator, inputs.generated))


def _with_gradients(discriminator: ConditionalDiscriminator, shown: Shown) -> tuple[Tensor, Tensor]:
    """Returns the images, which now require gradients, and their logits."""
    inputs = shown.images.detach().float().requires_grad_(True)
    return inputs, discriminator(inputs, shown.conditions)


@dataclass(frozen=True, kw_only=True)
class GeneratorInputs:
    """The inputs of the generator's objectives."""

    batch: Batch
    latents: Latents
    generated: Tensor  # (B, 3, R, R) float32
    layout_loss: Tensor | None  # a scalar; None if the generator predicts no layouts
    discriminator: ConditionalDiscriminator
    rng: torch.Generator

    @cached_property
    def output(self) -> DiscriminatorOutput:
        """The discriminator's output for the generated pictures."""
        return self._output(self.generated)

    @cached_property
    def target(self) -> DiscriminatorOutput:
        """The discriminator's output for the photos, with the same augmentation and without gradients."""
        with torch.no_grad():
            return self._output(self.batch.real)

    def _output(self, images: Tensor) -> DiscriminatorOutput:
        shown = Shown.of(images, self.batch.conditions, self.batch.augmentations[2])
        return self.discriminator.forward_with_features(shown.images, shown.conditions)

    @property
    def product(self) -> Tensor:
        """The product's mask in the snapshot, (B, 1, R, R) in [0, 1]."""
        return snapshot_and_mask(self.batch.conditions)[1]

    @property
    def compared(self) -> tuple[Tensor, Tensor]:
        """The generated pictures that are compared with photos, and the photos for the comparison."""
        return self.generated[: self.latents.compared], self.batch.real[: self.latents.compared]


def generator_objectives(settings: ObjectiveSettings, state: TrainState) -> list[Objective[GeneratorInputs]]:
    """Returns the terms of the generator's loss that the settings and the networks ask for."""
    term = Objective[GeneratorInputs]
    predicts_layouts = isinstance(state.generator, LayoutPredictingGenerator)
    objectives = [
        term(
            name="adversarial",
            weight=settings.adversarial_weight,
            value=partial(_generator_loss, LOSSES[settings.loss]),
        ),
        term(name="feature matching", weight=settings.feature_matching_weight, value=_feature_matching),
        term(name="divergence", weight=settings.kl_weight, value=_divergence),
        term(name="layout", weight=settings.layout_weight if predicts_layouts else 0.0, value=_layout),
        term(
            name="semantic",
            weight=settings.semantic_weight,
            value=partial(_semantic, state.auxiliary_classifier),
        ),
        term(name="colour", weight=settings.colour_weight, value=_colour),
        term(name="l1", weight=settings.l1_weight, value=_l1),
        term(name="gradient", weight=settings.gradient_weight, value=_gradient),
        term(name="structure", weight=settings.structure_weight, value=_structure),
        term(name="ground", weight=settings.ground_weight, value=_ground),
        term(name="detail", weight=settings.detail_weight, value=_detail),
        term(name="detail energy", weight=settings.detail_energy_weight, value=_detail_energy),
        term(
            name="perceptual",
            weight=settings.perceptual_weight,
            value=partial(_perceptual, state.perceptual, settings),
        ),
        term(
            name="path length",
            weight=settings.path_length_weight,
            value=partial(_path_length, state.generator),
            every_steps=PATH_LENGTH_EVERY_STEPS,
            in_float32=True,
        ),
    ]
    return [each for each in objectives if each.weight]


def _generator_loss(loss: AdversarialLoss, inputs: GeneratorInputs) -> Tensor:
    if not loss.paired:
        return _mean([loss.generator(each) for each in inputs.output.logits])
    generated, real = inputs.output.logits, inputs.target.logits
    return _mean([loss.generator(*pair) for pair in zip(real, generated, strict=True)])


def _feature_matching(inputs: GeneratorInputs) -> Tensor:
    """Returns the feature matching loss of those pictures that have the latents or the layouts of their
    photos.
    """
    real, generated = (
        [each[: inputs.latents.compared] for each in output.features]
        for output in (inputs.target, inputs.output)
    )
    return feature_matching_loss(real, generated)


def _divergence(inputs: GeneratorInputs) -> Tensor:
    assert inputs.latents.divergence is not None
    return inputs.latents.divergence


def _layout(inputs: GeneratorInputs) -> Tensor:
    assert inputs.layout_loss is not None
    return inputs.layout_loss


def _semantic(classifier: AuxiliaryClassifier | None, inputs: GeneratorInputs) -> Tensor:
    """Returns the loss of the generated pictures.

    The weights of the classifier get no gradients here, because it is trained on photos only.
    """
    assert classifier is not None
    outputs = classifier.requires_grad_(False)(inputs.generated)
    classifier.requires_grad_(True)
    return semantic_loss(outputs, inputs.batch.conditions)


def _colour(inputs: GeneratorInputs) -> Tensor:
    given = inputs.batch.conditions["colour"][:, 3] > 0
    return product_colour_loss(inputs.generated, inputs.batch.real, given)


def _l1(inputs: GeneratorInputs) -> Tensor:
    return reconstruction_loss(*inputs.compared)


def _gradient(inputs: GeneratorInputs) -> Tensor:
    return gradient_loss(*inputs.compared)


def _structure(inputs: GeneratorInputs) -> Tensor:
    return structure_loss(inputs.generated, inputs.batch.real, inputs.product)


def _ground(inputs: GeneratorInputs) -> Tensor:
    return ((inputs.generated - inputs.batch.real).abs() * (1 - inputs.product)).mean()


def _detail(inputs: GeneratorInputs) -> Tensor:
    return detail_loss(*inputs.compared)


def _detail_energy(inputs: GeneratorInputs) -> Tensor:
    return detail_energy_loss(*inputs.compared)


def _perceptual(backbone: "Backbone | None", settings: ObjectiveSettings, inputs: GeneratorInputs) -> Tensor:
    assert backbone is not None
    generated, real = _shifted(inputs.compared, settings.perceptual_shift, inputs.rng)
    with torch.no_grad():
        target = backbone.look(real, side=settings.perceptual_side)
    compare = content_loss if settings.perceptual_distance == "values" else perceptual_loss
    return compare(target, backbone.look(generated, side=settings.perceptual_side))


def _shifted(pair: tuple[Tensor, Tensor], most: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cuts `most` rows and columns off both pictures (B, 3, H, W), a random part of these at top and left."""
    if not most:
        return pair
    top, left = torch.randint(most + 1, (2,), generator=rng).tolist()
    first, second = (
        each[..., top : each.shape[-2] - most + top, left : each.shape[-1] - most + left] for each in pair
    )
    return first, second


def _path_length(generator: nn.Module, inputs: GeneratorInputs) -> Tensor:
    """Returns the penalty on half of the batch, as in Karras et al. 2020, appendix B.

    It also updates the running mean of the lengths.
    """
    assert isinstance(generator, StyledGenerator)
    count = (len(inputs.latents.values) + 1) // 2
    images, styles = generator.forward_with_styles(
        inputs.latents.values[:count],
        {name: value[:count] for name, value in inputs.batch.conditions.items()},
    )
    directions = torch.randn(images.shape, generator=inputs.rng).to(images.device) / images.shape[2]
    lengths = path_lengths(images, styles, directions)
    generator.mean_path_length.lerp_(lengths.detach().mean(), PATH_LENGTH_DECAY)
    return path_length_penalty(lengths, generator.mean_path_length.clone())


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()
