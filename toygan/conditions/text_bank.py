"""Replaces the embedding of a new text by a blend of the embeddings that a model was trained on.

A training set has few texts, each with a few photos, and a network memorises them. For other texts it guesses
the shape, the colour and even the product. So the embedding of a new text is replaced by a weighted mean of
the training embeddings. A nearer embedding has a larger weight. Source: the kernel regression of Nadaraya
1964 and Watson 1964, in the form of attention (Vaswani et al. 2017, eq. 1).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from toygan.errors import ModelError

# the largest number of texts; they take 6 MB with embeddings of 384 numbers
MOST_KNOWN = 8192


@dataclass(frozen=True, kw_only=True)
class TextBank:
    """N embeddings of distinct texts, and the temperature of their weights."""

    embeddings: Tensor  # (N, S) float32, rows of unit length as toygan.conditions.text makes them
    # above 0; if a text's cosine similarity is lower by this, its weight is smaller by the factor e
    temperature: float

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or not len(self.embeddings):
            shape = tuple(self.embeddings.shape)
            raise ModelError(f"the text bank has the shape {shape}; it must be (N, S), with N above 0")
        if not self.embeddings.isfinite().all():
            raise ModelError("the text bank is not finite; train the model again")
        if not 0 < self.temperature < float("inf"):
            raise ModelError(f"the temperature of the text bank is {self.temperature}; it must be above 0")

    @classmethod
    def of(cls, texts: Tensor, temperature: float) -> Self | None:
        """Makes a bank of at most MOST_KNOWN distinct rows of (N, S) float32; returns None for no texts.

        The embeddings are rounded to half precision, because a stored model has half precision.
        """
        distinct = torch.unique(texts[texts.any(dim=1)].half(), dim=0)
        if not len(distinct):
            return None
        if len(distinct) > MOST_KNOWN:
            distinct = distinct[torch.linspace(0, len(distinct) - 1, MOST_KNOWN).long()]
        return cls(embeddings=distinct.float(), temperature=temperature)

    @classmethod
    def from_file(cls, content: bytes, temperature: object) -> Self:
        """Reads what `to_file` wrote. Raises ModelError for other content and for an unusable temperature."""
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise ModelError(f"the temperature of the text bank is {temperature!r}; it must be a number")
        try:
            embeddings = load(content)["embeddings"].float()
        except (KeyError, SafetensorError) as error:
            raise ModelError(f"the text bank cannot be read: {error!r}") from error
        return cls(embeddings=embeddings, temperature=float(temperature))

    def to_file(self) -> bytes:
        """Writes the embeddings as safetensors. The temperature is not in the file."""
        return save({"embeddings": self.embeddings.half()})

    @cached_property
    def _centre(self) -> Tensor:
        return self.embeddings.mean(dim=0)

    @cached_property
    def _keys(self) -> Tensor:
        return F.normalize(self.embeddings - self._centre, dim=1)

    def blend(self, texts: Tensor, kept: Tensor | None = None) -> Tensor:
        """Replaces each row of (B, S) float32 by a weighted mean of the bank. Rows of zeros (no text) stay
        unchanged.

        The similarity is the cosine after the bank's mean is subtracted. `kept` (B, N) bool selects, for each
        text, the rows of the bank that are used. If it selects none for a text, all rows are used.
        """
        scores = F.normalize(texts - self._centre, dim=1) @ self._keys.T / self.temperature
        if kept is not None:
            scores = scores.masked_fill(~kept & kept.any(dim=1, keepdim=True), float("-inf"))
        blended: Tensor = scores.softmax(dim=1) @ self.embeddings
        return blended * texts.any(dim=1, keepdim=True)
