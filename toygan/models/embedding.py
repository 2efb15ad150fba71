"""Embeds category, colours and text as one vector, for all families."""

from collections.abc import Mapping
from math import sqrt
from typing import Self

import torch
from torch import Tensor, nn

from toygan.conditions.colour import COLOUR_SIZE
from toygan.models.layers import ConditionInput, Conditions, NetworkConfig, Sections

WHITENING_SHARE = 0.1  # this share of the mean variance is added to the variance of every direction


class Whitening(nn.Module):
    """Gives all principal directions of the text embeddings about the same variance.

    Sentence embeddings vary most with the topic and least with the details that distinguish two products. For
    titles of toy bricks, the hundredth principal direction has less than a hundredth of the variance of the
    first, so a linear layer learns it slowly.
    """

    mean: Tensor  # (size,) float32
    directions: Tensor  # (size, size) float32, one direction per column

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("directions", torch.eye(size))

    @torch.no_grad()
    def fit(self, texts: Tensor) -> None:
        """Fits mean and directions to N text embeddings, (N, size) float32.

        If there are no two different texts, nothing changes: any other text would be amplified without limit.
        """
        if not len(texts) or torch.allclose(texts, texts[:1], atol=1e-4):
            return
        centred = (texts - texts.mean(0)).double()
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(texts))
        # Without the added share, directions that hold only rounding errors would be amplified.
        variances = variances.clamp(min=0) + WHITENING_SHARE * variances.mean().clamp(min=1e-12)
        self.mean.copy_(texts.mean(0))
        self.directions.copy_(directions * variances.rsqrt())

    def forward(self, texts: Tensor) -> Tensor:
        """Whitens (B, size) float32. An embedding of zeros, which stands for no text, stays zeros."""
        whitened: Tensor = (texts - self.mean) @ self.directions
        return whitened * texts.any(dim=1, keepdim=True)


class ConditionEmbedding(ConditionInput):
    """Embeds category, main colour and, if configured, accent colours and text as one vector.

    The colour goes through a small MLP: a linear map of CIELAB could not distinguish one colour, such as a
    grey, from all others.
    """

    def __init__(
        self,
        *,
        categories: int,
        size: int,
        text_size: int = 0,
        whiten_text: bool = False,
        accent_colours: int = 0,
    ) -> None:
        super().__init__()
        self.whitening = Whitening(text_size) if whiten_text and text_size else None
        self.category = nn.Embedding(categories, size)
        self.colour = nn.Sequential(nn.Linear(COLOUR_SIZE, size), nn.SiLU(), nn.Linear(size, size))
        self.text = nn.Linear(text_size, size, bias=False) if text_size else None
        self.accents = None
        if accent_colours:
            inputs = COLOUR_SIZE * accent_colours
            self.accents = nn.Sequential(nn.Linear(inputs, size), nn.SiLU(), nn.Linear(size, size))

    @classmethod
    def of(cls, config: NetworkConfig, *, size: int, whiten_text: bool = False) -> Self:
        """Returns a module that embeds all conditions of the config except images."""
        return cls(
            categories=config.categories,
            size=size,
            text_size=config.text_size,
            whiten_text=whiten_text,
            accent_colours=config.accent_colours,
        )

    def sections(self) -> Mapping[str, Sections]:
        sections = {
            "category.weight": Sections(dim=0, counts={"category": self.category.num_embeddings}),
        }
        if self.accents is not None:
            for name, parameter in self.accents.named_parameters():
                sections[f"accents.{name}"] = Sections(dim=0, counts={"accents": len(parameter)})
        if self.text is not None:
            sections["text.weight"] = Sections(dim=1, counts={"text": self.text.in_features})
        if self.whitening is not None:
            for name in ("whitening.mean", "whitening.directions"):
                sections[name] = Sections(dim=0, counts={"text": self.whitening.mean.numel()})
        return sections

    def fit_whitening(self, texts: Tensor) -> None:
        """Fits the whitening, if there is one, to N text embeddings, (N, text_size) float32."""
        if self.whitening is not None:
            self.whitening.fit(_scaled(texts))

    def forward(self, conditions: Conditions) -> Tensor:
        """Returns (B, size) float32."""
        embedded: Tensor = self.category(conditions["category"]) + self.colour(conditions["colour"])
        if self.accents is not None:
            embedded = embedded + self.accents(conditions["accents"])
        if self.text is not None:
            text = _scaled(conditions["text"])
            if self.whitening is not None:
                text = self.whitening(text)
            embedded = embedded + self.text(text)
        return embedded


def _scaled(texts: Tensor) -> Tensor:
    """Scales rows of unit length, so that their values are about as large as other conditions' values."""
    return texts * sqrt(texts.shape[1])
