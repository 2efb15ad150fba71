"""Layouts and line drawings as small PNG files, the form in which the layout bank keeps them."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toygan.conditions.image import PAPER, Drawing, read_layout, read_sketch
from toygan.images import decode, decode_labels, encode_labels

MOST_SIDE: Final = 512  # the largest side in pixels; larger drawings are reduced to it
# the number of grey levels of blurred lines; files with 256 levels are three times as large
INK_LEVELS: Final = 8


class DrawingFiles(NamedTuple):
    """The files of a layout and of its lines (a sketch of its edges). Both are square, of any size."""

    layout: bytes  # PNG of labels
    lines: bytes  # PNG of black lines on white

    @classmethod
    def of(cls, layout: NDArray[np.uint8], lines: NDArray[np.uint8]) -> "DrawingFiles":
        """Encodes labels (H, H) uint8 and lines (H, H) uint8, as `read_sketch` returns them."""
        return cls(encode_labels(layout), _encode_lines(lines))

    @classmethod
    def own(cls, layout: bytes | None, lines: bytes | None, fitted: Drawing) -> "DrawingFiles":
        """Encodes the layout file and the line file of a photo again, in their own resolution.

        A file that is None is taken from `fitted`. Raises BadInput for a file that cannot be read.
        """
        small = cls.of(*fitted)
        return cls(
            small.layout if layout is None else _encode_layout_file(layout),
            small.lines if lines is None else _encode_lines_file(lines),
        )


def _encode_layout_file(data: bytes) -> bytes:
    return encode_labels(read_layout(data, min(max(decode_labels(data).shape), MOST_SIDE)))


def _encode_lines_file(data: bytes) -> bytes:
    return _encode_lines(read_sketch(data, min(max(decode(data).shape), MOST_SIDE)))


def _encode_lines(lines: NDArray[np.uint8]) -> bytes:
    """Encodes purely black and white lines with 1 bit per pixel, other lines with `INK_LEVELS` greys."""
    if np.isin(lines, (0, PAPER)).all():
        return encode_labels(lines == PAPER)
    step = PAPER / (INK_LEVELS - 1)
    return encode_labels(np.rint(np.rint(lines / step) * step).astype(np.uint8))
