import pytest
import torch

from toygan.conditions.colour import encode_colours
from toygan.errors import BadInput


def test_known_colours() -> None:
    """CIELAB under D65: white (100, 0, 0), black (0, 0, 0), pure red (53.24, 80.09, 67.20), each over 50."""
    encoded = encode_colours(["#FFFFFF", "#000000", "#FF0000", "#ff0000"])
    assert encoded.dtype == torch.float32
    wanted = torch.tensor(
        [
            [1.0, 0.0, 0.0, 1.0],
            [-1.0, 0.0, 0.0, 1.0],
            [53.24 / 50 - 1, 80.09 / 50, 67.20 / 50, 1.0],
            [53.24 / 50 - 1, 80.09 / 50, 67.20 / 50, 1.0],
        ]
    )
    torch.testing.assert_close(encoded, wanted, atol=3e-4, rtol=0)


def test_an_unknown_colour_is_all_zeros_and_not_grey() -> None:
    encoded = encode_colours([None, "#777777", None])
    assert encoded[0].tolist() == encoded[2].tolist() == [0, 0, 0, 0]
    assert encoded[1, 3] == 1


def test_no_colour_at_all() -> None:
    assert encode_colours([None]).tolist() == [[0, 0, 0, 0]]
    assert encode_colours([]).shape == (0, 4)


@pytest.mark.parametrize("text", ["", "#FFF", "FF0000", "#FF00000", "#GG0000", "#B4 0 0", "#FF0000\n", "red"])
def test_malformed_colours(text: str) -> None:
    with pytest.raises(BadInput, match="malformed; write #RRGGBB"):
        encode_colours(["#FF0000", text])
