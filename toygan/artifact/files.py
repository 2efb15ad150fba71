"""The files of a model. The version of a model is a digest of these files.

So the content of a version never changes, and swapped, truncated or mixed files are detected on reading. No
file is ever unpickled.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, deserialize

from toygan.artifact.json_object import json_object
from toygan.errors import ModelError

CONFIG = "config.json"
CALIBRATION = "calibration.json"
# optional: the embeddings of the training texts; new texts are encoded with these
TEXT_BANK = "text_bank.safetensors"
LAYOUT_BANK = "layout_bank.parquet"  # optional: the layouts for products without one
LAYOUT_PREDICTOR = "layout_predictor.safetensors"  # beside a layout bank: predicts the layouts of photos
MASK_NETWORK = "mask_network.safetensors"  # only for models of snapshots: finds the product in a snapshot
ENHANCER_CONFIG = "enhancer.json"  # optional: the config.json of an enhancer
ENHANCER = "enhancer.safetensors"  # beside enhancer.json: the generator of the enhancer
WEIGHTS = ("generator.safetensors", "discriminator.safetensors")
REQUIRED = (CONFIG, *WEIGHTS)
VERSIONED = (
    *REQUIRED,
    TEXT_BANK,
    LAYOUT_BANK,
    LAYOUT_PREDICTOR,
    MASK_NETWORK,
    ENHANCER_CONFIG,
    ENHANCER,
    CALIBRATION,
)
EXTRAS = ("model_card.md", "preview.png")
_VERSION_LETTERS = 12
# the safetensors package has no types for this function
_parse_safetensors: Callable[[bytes], object] = deserialize
# the first bytes of a plain pickle file, and of the zip file that torch.save writes
_PICKLES = (b"\x80", b"PK\x03\x04")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The content of one model version: the REQUIRED files, and those other files of VERSIONED that the model
    has.
    """

    name: str
    version: str
    files: Mapping[str, bytes]


def model_version(files: Mapping[str, bytes]) -> str:
    """Returns the first 12 hex digits of a sha256 over the names and sha256s of the VERSIONED files, sorted
    by name.
    """
    digest = hashlib.sha256()
    for name in sorted(set(files) & set(VERSIONED)):
        digest.update(f"{name}\x1f{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return digest.hexdigest()[:_VERSION_LETTERS]


def check_files(files: Mapping[str, bytes], where: str) -> None:
    """Raises ModelError if `files` cannot be a model. The message names the wrong file and the remedy.

    Checks that all REQUIRED files are there, that JSON files hold objects, and that the headers of
    safetensors files agree with the files' sizes. Whether the weights fit the networks is checked when the
    networks are built.
    """
    for name in REQUIRED:
        if name not in files:
            raise ModelError(f"{where}: {name} is missing; a model has {', '.join(REQUIRED)}")
    for name in sorted(set(files) & {CONFIG, ENHANCER_CONFIG, CALIBRATION}):
        json_object(files[name], f"{where}: {name}", "copy the model's folder again")
    for name in sorted(set(files) & {*WEIGHTS, TEXT_BANK, LAYOUT_PREDICTOR, MASK_NETWORK, ENHANCER}):
        _check_weights(files[name], f"{where}: {name}")


def read_folder(folder: Path) -> dict[str, bytes]:
    """Reads and checks the VERSIONED files of a model's folder; ignores other files. Raises ModelError."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder; give a folder with {', '.join(REQUIRED)}")
    files = _read_named(folder, VERSIONED)
    check_files(files, str(folder))
    return files


def looks_like_version(text: str) -> bool:
    """Whether a text has the form of a model version."""
    return len(text) == _VERSION_LETTERS and all(letter in "0123456789abcdef" for letter in text)


def _read_named(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    try:
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    except OSError as error:
        raise ModelError(f"{folder}: {error}") from None


def _check_weights(data: bytes, where: str) -> None:
    try:
        _parse_safetensors(data)
    except SafetensorError as error:
        if data.startswith(_PICKLES):
            reason = (
                "is a pickle, which could run any code, and was not opened; save the weights as safetensors"
            )
        else:
            reason = f"is not a whole safetensors file ({error}); copy the model's folder again"
        raise ModelError(f"{where} {reason}") from None
