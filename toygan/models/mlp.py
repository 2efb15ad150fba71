"""The vanilla GAN of the textbook: Goodfellow et al. 2014, fully connected, the baseline of every comparison.

The generator widens 100 noise inputs to 1024 units and narrows them again before the output, as an
encoder-decoder does. Its output is a tanh, all other activations are leaky ReLU. The tanh is scaled to pass
through 1 at 1 (LeCun et al. 1998, "Efficient BackProp", section 4.4): the plain tanh reaches white (1) only
at infinity, and saturates on photos that are mostly white. Conditions are concatenated with noise and pixels
(Mirza & Osindero 2014): the category as a one-hot vector, the colour as four numbers, a text as an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.models.layers import (
    COLOURS,
    ConditionalDiscriminator,
    ConditionalGenerator,
    ConditionInput,
    Conditions,
    DiscriminatorOutput,
    NetworkConfig,
    Sections,
)

TANH_HEIGHT, TANH_SLOPE = 1.7159, 2 / 3


@dataclass(frozen=True, kw_only=True)
class MlpConfig(NetworkConfig):
    """The options of both networks: the numbers of units of the hidden layers, in order."""

    latent_size: int = 100
    generator_units: tuple[int, ...] = (256, 512, 1024, 512, 256)
    discriminator_units: tuple[int, ...] = (512, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generator_units", "discriminator_units"):
            units = getattr(self, name)
            if not units or min(units) < 1:
                raise ValueError(f"{name} is {units}; it must be one or more numbers, each at least 1")

    @property
    def condition_size(self) -> int:
        return self.categories + COLOUR_SIZE * (1 + self.accent_colours) + self.text_size

    @property
    def pixels(self) -> int:
        """The number of values in a picture."""
        return 3 * self.resolution**2


class FirstLayer(nn.Linear, ConditionInput):
    """The first hidden layer. Its inputs are noise or pixels, followed by the conditions."""

    def __init__(self, inputs: int, units: int, config: MlpConfig) -> None:
        super().__init__(inputs + config.condition_size, units)
        self.counts = {"picture": inputs, "category": config.categories}
        self.counts |= {"colour": COLOUR_SIZE, "accents": COLOUR_SIZE * config.accent_colours}
        self.counts["text"] = config.text_size

    def sections(self) -> Mapping[str, Sections]:
        return {"weight": Sections(dim=1, counts=self.counts)}


def _hidden_layers(inputs: int, units: Sequence[int], config: MlpConfig) -> nn.Sequential:
    layers: list[nn.Module] = [FirstLayer(inputs, units[0], config), nn.LeakyReLU(0.2)]
    for before, after in pairwise(units):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


def _as_vectors(conditions: Conditions, categories: int) -> Tensor:
    """Returns (B, categories + 4) float32, with more columns if there are accent colours or texts."""
    category = F.one_hot(conditions["category"], categories)
    others = [conditions[name] for name in (*COLOURS, "text") if name in conditions]
    return torch.cat([category, *others], dim=1)


class Generator(ConditionalGenerator):
    """Maps latents and conditions to pictures."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.categories = config.categories
        self.shape = (3, config.resolution, config.resolution)
        self.hidden = _hidden_layers(config.latent_size, config.generator_units, config)
        self.to_pixels = nn.Linear(config.generator_units[-1], config.pixels)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        """Maps (B, latent_size) float32, standard normal, to (B, 3, R, R) float32; photos lie in [-1, 1].

        The scaled tanh limits values to -1.7159..1.7159.
        """
        x = self.hidden(torch.cat([latents, _as_vectors(conditions, self.categories)], dim=1))
        # The 8 mantissa bits of bfloat16 cannot hold 8 bits of colour.
        with torch.autocast(x.device.type, enabled=False):
            images: Tensor = TANH_HEIGHT * torch.tanh(TANH_SLOPE * self.to_pixels(x.float()))
        return images.view(-1, *self.shape)


class Discriminator(ConditionalDiscriminator):
    """Maps pictures and conditions to one logit each."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.categories = config.categories
        self.hidden = _hidden_layers(config.pixels, config.discriminator_units, config)
        self.logit = nn.Linear(config.discriminator_units[-1], 1)

    def forward_with_features(self, images: Tensor, conditions: Conditions) -> DiscriminatorOutput:
        """Returns one logit per picture, (B,) float32. Its sigmoid is the probability that the picture is a
        photo.
        """
        x = torch.cat([images.flatten(1), _as_vectors(conditions, self.categories)], dim=1)
        logits: Tensor = self.logit(self.hidden(x)).squeeze(1)
        return DiscriminatorOutput(logits=(logits.float(),))


def build(config: MlpConfig) -> tuple[Generator, Discriminator]:
    """Builds both networks with fresh weights."""
    return Generator(config), Discriminator(config)
