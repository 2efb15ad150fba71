"""Building blocks shared by the model families. No I/O here."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Conditions = Mapping[str, Tensor]
"""What a picture is conditioned on, one row a picture: `category` (B,) int64 in [0, categories) and
`colour` (B, 4) float32, see `toygan.conditions.colour`."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the configs of all families have in common."""

    categories: int
    resolution: int = 64  # pixels, a power of two from 32

    def __post_init__(self) -> None:
        if self.resolution < 32 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution is {self.resolution}; it must be a power of two from 32")
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


class ConditionalGenerator(nn.Module):
    """What every generator has besides `forward(latents, conditions)`.

    Latents are (B, latent_size) float32, standard normal, pictures (B, 3, R, R) float32.
    """

    latent_size: int

    def forward_truncated(self, latents: Tensor, conditions: Conditions, truncation: float) -> Tensor:
        """Pictures nearer to the typical one: 1 leaves them as they are, 0 leaves no variety.

        Here by smaller latents.
        """
        images: Tensor = self(truncation * latents, conditions)
        return images

    def forward_in_training(self, latents: Tensor, conditions: Conditions, rng: torch.Generator) -> Tensor:
        """Pictures as the discriminator is shown them in training, where `rng` may vary them."""
        images: Tensor = self(latents, conditions)
        return images


class StyledGenerator(ConditionalGenerator):
    """A generator with styles between latents and pictures, whose path length can be kept even."""

    mean_path_length: Tensor  # () float32, a running mean that training keeps

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_path_length", torch.zeros(()))

    def forward_with_styles(self, latents: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Pictures and the styles that they are made from, (B, layers, style_size) float32."""
        raise NotImplementedError


class ConditionEmbedding(nn.Module):
    """Category and main colour as one vector.

    The colour goes through a small MLP, since a linear map of CIELAB could only say "more" or "less" of each
    axis, never "just this grey".
    """

    def __init__(self, *, categories: int, size: int) -> None:
        super().__init__()
        self.category = nn.Embedding(categories, size)
        self.colour = nn.Sequential(nn.Linear(4, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, conditions: Conditions) -> Tensor:
        """Returns (B, size) float32."""
        embedded: Tensor = self.category(conditions["category"]) + self.colour(conditions["colour"])
        return embedded


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation, gain and bias linear in a condition vector (de Vries et al. 2017, eq. 2)."""

    def __init__(self, channels: int, condition_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(condition_size, channels)
        self.bias = nn.Linear(condition_size, channels)
        for linear in (self.gain, self.bias):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, channels, H, W) and (B, condition_size) to (B, channels, H, W)."""
        gain = (1 + self.gain(condition))[:, :, None, None]
        bias = self.bias(condition)[:, :, None, None]
        normalised: Tensor = self.norm(x)
        return torch.addcmul(bias.to(x.dtype), normalised, gain.to(x.dtype))
