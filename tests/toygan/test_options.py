from dataclasses import dataclass
from typing import Any

import pytest

from toygan.options import from_options


@dataclass(frozen=True, kw_only=True)
class Config:
    size: int
    rate: float = 0.5
    betas: tuple[float, float] = (0.0, 0.9)
    name: str = "a"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1")


def test_whole_numbers_and_lists_fit_floats_and_tuples() -> None:
    config = from_options(Config, {"size": 3, "rate": 1, "betas": [0, 0.5]}, owner="test")
    assert config == Config(size=3, rate=1.0, betas=(0.0, 0.5))
    assert isinstance(config.betas, tuple)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 3, "sice": 4}, "test: no option sice; known are size, rate, betas, name"),
        ({}, "test: size: Field required$"),
        ({"size": "3"}, "size: .*integer, found '3'"),
        ({"size": 3.5}, "size: .*integer"),
        ({"size": True}, "size: .*integer, found True"),
        ({"size": 3, "rate": "fast"}, "rate: .*number, found 'fast'"),
        ({"size": 3, "betas": [1]}, "betas.1: Field required"),
        ({"size": 3, "name": None}, "name: .*string, found None"),
        ({"size": 0}, "test: size is 0; it must be at least 1"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_options(Config, options, owner="test")
