"""Converts colours written as `#RRGGBB`.

This module does not import torch, because planning runs without torch.
"""

import re

from toygan.errors import BadInput

_HEX = re.compile(r"#[0-9A-Fa-f]{6}")


def hex_to_rgb(colour_hex: str) -> tuple[int, ...]:
    """Converts `#RRGGBB` to three numbers from 0 to 255. Raises BadInput for anything else."""
    if not _HEX.fullmatch(colour_hex):
        raise BadInput(f"the colour {colour_hex!r} is malformed; write #RRGGBB")
    return tuple(bytes.fromhex(colour_hex[1:]))
