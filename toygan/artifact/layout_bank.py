"""The layout bank: layouts of training photos, for products that have no layout.

A network generates well from a layout, but it cannot memorise the shapes of a thousand parts. So the model
keeps the layouts of its training photos, as in Qi et al. 2018, "Semi-parametric Image Synthesis". The memory
bank of the paper holds segments. This bank holds whole layouts and their lines. A product gets the layout and
the lines of a training product of the same category. The more similar its text, the more likely a training
product is chosen. The layout is recoloured to the product's own colours and finish.

The bank keeps layouts and lines in the resolution of their files. A model's generator gets them in its own,
smaller resolution. An enhancer, which enlarges the generator's pictures, gets them in the larger resolution
of its output.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from toygan.artifact.colour_labels import ColourLabels
from toygan.artifact.mixed_labels import damaged_layout, mixed_folder, mixed_shares, read_labels
from toygan.conditions.colour import encode_colours
from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.drawing_files import DrawingFiles
from toygan.conditions.image import Drawing, read_sketch
from toygan.conditions.product import ProductConditions
from toygan.errors import BadInput, ModelError

MOST_KNOWN: Final = 8192  # the largest number of layouts in a bank; about 20 MB at 256 pixels
MOST_BYTES: Final = 2**28  # the largest size in bytes of all layouts of a bank together
# If a layout has more or fewer colours than the product, this is subtracted from the similarity for each
# colour of the difference. A colour of the layout that the product's title does not name could not be
# recoloured.
COUNT_PENALTY: Final = 0.2
# Recolouring may change a wrong part, because it has the same label as the right part: a figure's skin and
# its yellow hat, or a tyre and its dark rim. This number times the likely share of such pixels is subtracted
# from the similarity, too.
MIXED_PENALTY: Final = 2.0
# the number of decimals; further decimals depend on the device and on half precision
SIMILARITY_DIGITS: Final = 3

_SCHEMA: Final = pa.schema(
    [
        pa.field("category", pa.string(), nullable=False),
        pa.field("layout", pa.binary(), nullable=False),  # PNG of labels
        pa.field("lines", pa.binary(), nullable=False),  # PNG of black lines on white
        pa.field("text", pa.binary()),  # the text's embedding in float16, null without a text
        # Labels of the product's colours, the main colour first; BACKGROUND for a colour without a label.
        pa.field("labels", pa.list_(pa.uint8()), nullable=False),
    ]
)
_META: Final = b"toygan"
# The errors that Arrow, JSON and wrong values raise for a damaged file.
_DAMAGED: Final = (
    *(pa.ArrowException, BadInput, ArithmeticError, AttributeError, LookupError, MemoryError, OSError),
    *(RecursionError, TypeError, ValueError),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayoutBank:
    """N layouts with the data of their products, and the temperature of the choice among them."""

    categories: tuple[str, ...]  # N
    files: tuple[DrawingFiles, ...]  # N
    texts: Tensor  # (N, S) float32, rows of unit length, zeros without a text
    say_finish: bool  # whether the texts name the finish, on which the shape does not depend
    labels: tuple[tuple[int, ...], ...]  # for each of the N layouts, the labels of the given colours
    colour_labels: ColourLabels
    classes: int  # all labels are less than this
    # above 0; if a text's cosine similarity is lower by this, its weight is smaller by the factor e
    temperature: float

    def __post_init__(self) -> None:
        if not self.categories:
            raise ModelError("the layout bank is empty; train the model again")
        if not self.texts.isfinite().all():
            raise ModelError("the texts of the layout bank are not finite; train the model again")
        if not 0 < self.temperature < float("inf"):
            raise ModelError(f"the temperature of the layout bank is {self.temperature}; it must be above 0")

    @classmethod
    def from_file(cls, content: bytes, temperature: object, *, text_size: int, classes: int) -> Self:
        """Reads what `to_file` wrote, for a model with this text size and labels below `classes`.

        Raises ModelError for any other file, and for an unusable temperature. Layouts and lines are decoded
        and checked when they are chosen.
        """
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise ModelError(f"the temperature of the layout bank is {temperature!r}; it must be a number")
        try:
            with pq.ParquetFile(io.BytesIO(content)) as file:
                _check_size(file)
                columns = file.read().select(_SCHEMA.names).cast(_SCHEMA).to_pydict()
                said = json.loads(file.schema_arrow.metadata[_META])
            if (found := said["text_size"]) != text_size:
                raise ValueError(f"its texts have {found} numbers, but those of the model have {text_size}")
            exact = {str(key): int(label) for key, label in said["colour_labels"].items()}
            encode_colours(list(exact))
            labels = tuple(map(tuple, columns["labels"]))
            if any(not 0 <= label < classes for label in {*exact.values(), *(x for y in labels for x in y)}):
                raise ValueError(f"labels lie in 0..{classes - 1}")
            texts = np.zeros((len(labels), text_size), dtype=np.float32)
            for row, text in enumerate(columns["text"]):
                if text is not None:
                    texts[row] = np.frombuffer(text, np.float16, count=text_size)
            return cls(
                categories=tuple(columns["category"]),
                files=tuple(map(DrawingFiles, columns["layout"], columns["lines"])),
                texts=torch.from_numpy(texts),
                say_finish=bool(said.get("say_finish", True)),
                labels=labels,
                colour_labels=ColourLabels(exact=exact),
                classes=classes,
                temperature=float(temperature),
            )
        except _DAMAGED as error:
            raise ModelError(f"the layout bank cannot be read: {error!r}") from error

    def to_file(self) -> bytes:
        """Returns the bank as a Parquet file, without the temperature."""
        said = {
            "text_size": self.texts.shape[1],
            "say_finish": self.say_finish,
            "colour_labels": dict(self.colour_labels.exact),
        }
        table = pa.table(
            {
                "category": self.categories,
                "layout": [each.layout for each in self.files],
                "lines": [each.lines for each in self.files],
                "text": [row.tobytes() if row.any() else None for row in self.texts.half().numpy()],
                "labels": self.labels,
            },
            schema=_SCHEMA.with_metadata({_META: json.dumps(said, sort_keys=True)}),
        )
        file = io.BytesIO()
        # Photos of one product have the same text, which the dictionary stores once.
        pq.write_table(table, file, compression="zstd", use_dictionary=["category", "text"])
        return file.getvalue()

    def text_of(self, product: ProductConditions) -> str | None:
        """Returns the product's text that is compared with the texts of the bank."""
        return product.text if self.say_finish else product.shape_text

    def choose(
        self, product: ProductConditions, text: Tensor, seed: int, truncation: float = 1.0
    ) -> "KnownChoice":
        """Chooses a layout for a product and recolours it. The result depends on the arguments only.

        `text` (S,) float32 is the embedding of `text_of(product)`. `truncation` lies from 0 to 1. The lower
        it is, the more likely layouts with the best scores are chosen; 0 always chooses the best one. Raises
        ModelError if the bank has no layout of the category, or if the chosen layout is damaged.
        """
        group = self._group(product.category)
        similarities = self._similarities(group, text)
        chosen = _draw(self._scores(group, product, similarities), seed, truncation)
        row = int(group.rows[chosen])
        similarity = _rounded(similarities[chosen]) if len(text) else None
        drawing = self._read(row)
        hexes = [product.colour_hex, *product.accent_hexes]
        return KnownChoice(
            layout=self._recoloured(drawing.layout, self.labels[row], hexes),
            lines=drawing.lines,
            similarity=similarity,
        )

    def best_similarity(
        self, product: ProductConditions, text: Tensor, seeds: Sequence[int], truncation: float = 1.0
    ) -> float | None:
        """Returns the greatest similarity of the layouts that `choose` returns for these seeds."""
        if not len(text):
            return None
        group = self._group(product.category)
        similarities = self._similarities(group, text)
        scores = self._scores(group, product, similarities)
        return max(_rounded(similarities[_draw(scores, seed, truncation)]) for seed in seeds)

    def _group(self, category: str) -> "_Group":
        if (group := self._groups.get(category)) is None:
            raise ModelError(
                f"the layout bank has no layout of {category!r}; "
                "train the model on photos of this category with layouts"
            )
        return group

    def _similarities(self, group: "_Group", text: Tensor) -> NDArray[np.float64]:
        # Without a text all similarities are 0, as for two texts that have nothing in common.
        cosines = group.keys @ F.normalize(text - self._centre, dim=0) * text.any()
        similarities: NDArray[np.float64] = cosines.double().numpy()
        return similarities

    def _scores(
        self, group: "_Group", product: ProductConditions, similarities: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        too_many = np.abs(group.counts - 1 - len(product.accent_hexes))
        penalties = COUNT_PENALTY * too_many + MIXED_PENALTY * group.mixed
        scores: NDArray[np.float64] = (similarities - penalties) / self.temperature
        return scores

    def _recoloured(
        self, layout: NDArray[np.uint8], labels: Sequence[int], hexes: Sequence[str | None]
    ) -> NDArray[np.uint8]:
        """Replaces all labels at once, so that two colours can be swapped.

        If two colours have the same old label, it becomes the label of the first colour.
        """
        others = np.arange(256, dtype=np.uint8)
        for label, colour_hex in reversed(list(zip(labels, hexes, strict=False))):
            wanted = None if colour_hex is None else self.colour_labels(colour_hex)
            if label != BACKGROUND and wanted is not None:
                others[label] = wanted
        recoloured: NDArray[np.uint8] = others[layout]
        return recoloured

    def _read(self, row: int) -> Drawing:
        """Decodes the layout and the lines (a sketch) in a row of the bank, both in the resolution of the
        layout.
        """
        files = self.files[row]
        with damaged_layout():
            layout = read_labels(files.layout, self.classes)
            return Drawing(layout, read_sketch(files.lines, len(layout)))

    @cached_property
    def _centre(self) -> Tensor:
        said = self.texts[self.texts.any(dim=1)]
        return said.mean(dim=0) if len(said) else self.texts.new_zeros(self.texts.shape[1])

    @cached_property
    def _groups(self) -> Mapping[str, "_Group"]:
        """The layouts of each category."""
        names = np.array(self.categories)
        keys = F.normalize(self.texts - self._centre, dim=1) * self.texts.any(dim=1, keepdim=True)
        counts = np.array([len(set(each) - {BACKGROUND}) for each in self.labels])
        rows = {name: np.flatnonzero(names == name) for name in set(self.categories)}
        layouts = [each.layout for each in self.files]
        mixed = mixed_shares(self.categories, layouts, self.labels, self.classes, mixed_folder())
        return {
            name: _Group(rows=each, keys=keys[each], counts=counts[each], mixed=mixed[each])
            for name, each in rows.items()
        }


class KnownChoice(NamedTuple):
    """The layout and lines that a picture is generated from."""

    layout: NDArray[np.uint8]  # (H, H) labels of the product's colours; H may be any side
    lines: NDArray[np.uint8]  # (H, H), as toygan.conditions.image reads a sketch
    # The cosine similarity, -1..1, of the product's text (see LayoutBank.text_of) and the layout's text. It
    # is 0 if one of these texts is missing, and None if the model uses no text.
    similarity: float | None


class _Group(NamedTuple):
    """The M layouts of a category."""

    rows: NDArray[np.int64]  # (M,)
    keys: Tensor  # (M, S) float32, texts minus their mean, scaled to unit length; zeros without a text
    counts: NDArray[np.int64]  # (M,), number of different colours in each layout
    mixed: NDArray[np.float64]  # (M,), likely share of the product that is recoloured by mistake


def _draw(scores: NDArray[np.float64], seed: int, truncation: float) -> int:
    """Chooses the index of a score at random, with probabilities proportional to e^(score / truncation)."""
    if truncation <= 0:
        return int(scores.argmax())
    weights = np.exp((scores - scores.max()) / truncation)
    # The key has a second number, so that the choice is independent of the latents, which use only the seed.
    drawn = np.random.Generator(np.random.Philox(key=[seed, 1])).random()
    return min(int(np.searchsorted(np.cumsum(weights) / weights.sum(), drawn)), len(weights) - 1)


def _rounded(similarity: float) -> float:
    return round(float(similarity), SIMILARITY_DIGITS) + 0.0  # never -0.0


def _check_size(file: pq.ParquetFile) -> None:
    """Raises ValueError for a file that is too large, before it is read into memory."""
    found = file.metadata
    size = sum(found.row_group(number).total_byte_size for number in range(found.num_row_groups))
    if found.num_rows > MOST_KNOWN or size > MOST_BYTES:
        raise ValueError(
            f"it has {found.num_rows} layouts with {size} bytes in all; the limits are {MOST_KNOWN} layouts "
            f"and {MOST_BYTES} bytes in all"
        )
