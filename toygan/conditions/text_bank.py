"""New texts read by those that a model learnt from.

A training sees few texts, each of a few photos, and a network learns each of them by heart; between them it
guesses, in shape, colour and kind of product alike. So a new text is taken for the mean of the known ones,
each weighted by how near it is: the kernel regression of Nadaraya 1964 and Watson 1964, as attention has it
(Vaswani et al. 2017, eq. 1).
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

MOST_KNOWN = 8192  # 6 MB with embeddings of 384 numbers


@dataclass(frozen=True, kw_only=True)
class TextBank:
    """N embeddings of distinct texts, and how quickly their weights fall with their distance."""

    embeddings: Tensor  # (N, S) float32, rows of unit length as toygan.conditions.text makes them
    temperature: float  # above 0; a cosine similarity lower by this much means a weight lower by a factor e

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or not len(self.embeddings):
            shape = tuple(self.embeddings.shape)
            raise ModelError(f"known texts have the shape {shape}; they must be (N, S), with N above 0")
        if not self.embeddings.isfinite().all():
            raise ModelError("known texts are not finite; train the model again")
        if not 0 < self.temperature < float("inf"):
            raise ModelError(f"the temperature of known texts is {self.temperature}; it must be above 0")

    @classmethod
    def of(cls, texts: Tensor, temperature: float) -> Self | None:
        """From embeddings (N, S) float32, at most MOST_KNOWN of the distinct ones; None without any text.

        They are rounded to half precision, which is how a model keeps them.
        """
        distinct = torch.unique(texts[texts.any(dim=1)].half(), dim=0)
        if not len(distinct):
            return None
        if len(distinct) > MOST_KNOWN:
            distinct = distinct[torch.linspace(0, len(distinct) - 1, MOST_KNOWN).long()]
        return cls(embeddings=distinct.float(), temperature=temperature)

    @classmethod
    def from_file(cls, content: bytes, temperature: object) -> Self:
        """As `to_file` wrote them; raises ModelError for anything else, and for an unusable temperature."""
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise ModelError(f"the temperature of known texts is {temperature!r}; it must be a number")
        try:
            embeddings = load(content)["embeddings"].float()
        except (KeyError, SafetensorError) as error:
            raise ModelError(f"the known texts cannot be read: {error!r}") from error
        return cls(embeddings=embeddings, temperature=float(temperature))

    def to_file(self) -> bytes:
        """Safetensors, without the temperature."""
        return save({"embeddings": self.embeddings.half()})

    @cached_property
    def _centre(self) -> Tensor:
        return self.embeddings.mean(dim=0)

    @cached_property
    def _keys(self) -> Tensor:
        return F.normalize(self.embeddings - self._centre, dim=1)

    def blend(self, texts: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, S) float32 to the weighted mean of the known texts, row by row; zeros, which say nothing, stay.

        Similarity is the cosine after the mean of the known texts is taken off, which all of them share.
        `kept` (B, N) bool leaves known texts out, unless it would leave none.
        """
        scores = F.normalize(texts - self._centre, dim=1) @ self._keys.T / self.temperature
        if kept is not None:
            scores = scores.masked_fill(~kept & kept.any(dim=1, keepdim=True), float("-inf"))
        blended: Tensor = scores.softmax(dim=1) @ self.embeddings
        return blended * texts.any(dim=1, keepdim=True)
