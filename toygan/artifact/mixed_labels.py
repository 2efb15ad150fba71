"""Estimates for each layout of a bank how much of the product a recolouring gets wrong.

The estimate needs the pixels of all layouts, and to decode those of the bundled bank takes two seconds. So
it is kept in the user's cache folder. The cache saves time and changes nothing else.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.drawing_files import MOST_SIDE
from toygan.conditions.text_cache import default_folder
from toygan.errors import BadInput, ModelError
from toygan.images import decode_labels

LABELS: Final = 256  # the number of labels that a layout file can hold
FEWEST_KEPT: Final = 256  # estimates for fewer layouts are not kept, because decoding takes below 0.5 s
_METHOD: Final = 1  # the version of the estimate; estimates kept by another version are not used

log = logging.getLogger(__name__)


def mixed_folder() -> Path | None:
    """Returns the folder of the kept estimates below the user's cache folder; None without a home folder."""
    texts = default_folder()
    return texts and texts.with_name("banks")


def mixed_shares(
    categories: Sequence[str],
    layouts: Sequence[bytes],
    labels: Sequence[Sequence[int]],
    classes: int,
    folder: Path | None,
) -> NDArray[np.float64]:
    """Returns the likely share of wrongly recoloured pixels, (N,) in 0..1, for N layouts with their labels.

    For each label that a product names, the method takes the mean share of this label in the layouts of
    products of the category that do not name it. These shares are added up for each layout. `folder` keeps
    the result for a large bank. Raises ModelError for a damaged layout.
    """
    path = None
    if folder is not None and len(layouts) >= FEWEST_KEPT:
        path = folder / f"{_digest(categories, layouts, labels, classes)}.npy"
        if (kept := _read(path, len(layouts))) is not None:
            return kept
    names = np.array(categories)
    found = np.zeros(len(layouts))
    for category in sorted(set(categories)):
        rows = np.flatnonzero(names == category).tolist()
        pixels = np.stack([_pixels(layouts[row], classes) for row in rows])
        found[rows] = _mixed(pixels, [labels[row] for row in rows])
    if path is not None:
        _write(path, found)
    return found


def read_labels(file: bytes, classes: int) -> NDArray[np.uint8]:
    """Decodes a layout of a bank, (H, H) uint8 below `classes`. Raises BadInput for any other file."""
    layout = decode_labels(file)
    height, width = layout.shape
    if height != width or height > MOST_SIDE:
        raise BadInput(
            f"it has {width} x {height} pixels; it must be square, with at most {MOST_SIDE} pixels a side"
        )
    if layout.max() >= classes:
        raise BadInput(f"it holds the label {layout.max()}; labels lie in 0..{classes - 1}")
    return layout


@contextmanager
def damaged_layout() -> Iterator[None]:
    """Turns BadInput into a ModelError that names the layout bank."""
    try:
        yield
    except BadInput as error:
        raise ModelError(f"a layout of the layout bank: {error}; copy the model's folder again") from None


def _digest(
    categories: Sequence[str], layouts: Sequence[bytes], labels: Sequence[Sequence[int]], classes: int
) -> str:
    digest = sha256(repr((_METHOD, classes, list(categories), [list(each) for each in labels])).encode())
    for layout in layouts:
        digest.update(sha256(layout).digest())
    return digest.hexdigest()[:32]


def _pixels(file: bytes, classes: int) -> NDArray[np.float64]:
    """Returns the number of pixels of each label, (LABELS,)."""
    with damaged_layout():
        layout = read_labels(file, classes)
    return np.array(Image.fromarray(layout).histogram(), dtype=np.float64)  # takes half the time of bincount


def _mixed(pixels: NDArray[np.float64], labels: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Estimates the shares of M layouts of a category, (M,), from their pixels (M, LABELS) of each label."""
    pixels[:, BACKGROUND] = 0
    shares = pixels / pixels.sum(axis=1, keepdims=True).clip(min=1)
    named = np.zeros_like(shares, dtype=bool)
    for number, of_product in enumerate(labels):
        named[number, list(of_product)] = True
    named[:, BACKGROUND] = False
    unnamed = (shares * ~named).sum(axis=0) / (~named).sum(axis=0).clip(min=1)
    mixed: NDArray[np.float64] = (named * unnamed).sum(axis=1)
    return mixed


def _read(path: Path, layouts: int) -> NDArray[np.float64] | None:
    """Returns the kept estimates of N layouts; None if there are none that can be used."""
    try:
        found: NDArray[np.float64] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        log.warning("the kept estimates %s cannot be used (%s); they are made again", path, error)
        return None
    is_usable = found.shape == (layouts,) and found.dtype == np.float64 and np.isfinite(found).all()
    return found if is_usable else None


def _write(path: Path, found: NDArray[np.float64]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.save(file, found)
        Path(file.name).replace(path)
    except OSError as error:
        log.warning("the estimates cannot be kept in %s (%s); the next start takes longer", path, error)
