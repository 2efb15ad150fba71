"""How a training goes. Lengths are counted in images; every value is checked where it is made."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from toygan.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training. `network` holds the options of the family's own config, such as its widths."""

    family: str
    resolution: int  # pixels
    network: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 64  # images
    generator_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    adam_betas: tuple[float, float] = (0.5, 0.999)
    ema_half_life_images: float = 10_000
    colour_dropout: float = 0.1  # share of the training pictures whose colour is withheld
    precision: Literal["fp32", "bf16"] = "bf16"
    log_every_images: int = 6_400
    checkpoint_every_images: int = 64_000

    def __post_init__(self) -> None:
        for name in ("batch_size", "log_every_images", "checkpoint_every_images", "ema_half_life_images"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("generator_rate", "discriminator_rate"):
            if not 0 < getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if len(self.adam_betas) != 2 or not all(0 <= beta < 1 for beta in self.adam_betas):
            raise BadInput(f"adam_betas is {self.adam_betas}; it must be two numbers from 0 to below 1")
        if not 0 <= self.colour_dropout <= 1:
            raise BadInput(f"colour_dropout is {self.colour_dropout}; it must lie from 0 to 1")
        if self.precision not in ("fp32", "bf16"):
            raise BadInput(f"precision is {self.precision!r}; it must be fp32 or bf16")

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Raises BadInput for an option that does not exist, and names those that do."""
        known = [each.name for each in fields(cls)]
        unknown = sorted(values.keys() - set(known))
        if unknown:
            raise BadInput(f"unknown training options {', '.join(unknown)}; known are {', '.join(known)}")
        values = dict(values)
        if "adam_betas" in values:
            values["adam_betas"] = tuple(values["adam_betas"])
        return cls(**values)


PRESETS = {
    "dcgan": TrainConfig(
        family="dcgan",
        resolution=64,
        network={"generator_channels": 32, "discriminator_channels": 24, "max_channels": 256},
    ),
}
