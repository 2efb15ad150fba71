"""Bytes on disk of `pip install toygan` and of its extras, as the packages of this environment state them."""

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS: Final = ((), ("train",), ("train", "track"), ("onnx",), ("keras",), ("c2pa",), ("test",))
_OF_TORCH: Final = re.compile(r"torch|triton|nvidia-.*|cuda-.*")


def closure(name: str, extras: Sequence[str]) -> Mapping[str, Distribution]:
    """The package `name` and all that it needs, by canonical name. Raises RuntimeError for a missing one."""
    found: dict[str, Distribution] = {}
    waiting, done = [(name, frozenset(extras))], set()
    while waiting:
        asked = waiting.pop()
        if asked in done:
            continue
        done.add(asked)
        try:
            package = distribution(asked[0])
        except PackageNotFoundError as error:
            raise RuntimeError(f"{asked[0]} is not installed here; install '.[test]'") from error
        found[canonicalize_name(asked[0])] = package
        for text in package.requires or ():
            needed = Requirement(text)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *asked[1])):
                waiting.append((needed.name, frozenset(needed.extras)))
    return found


def total_bytes(packages: Mapping[str, Distribution]) -> int:
    """The bytes of all files that the packages list."""
    return sum(file.size or 0 for package in packages.values() for file in package.files or ())


def print_sizes() -> None:
    print("| `pip install` | packages | MB | of these torch and its CUDA |")
    print("|---|---:|---:|---:|")
    for extras in EXTRAS:
        packages = closure("toygan", extras)
        torch = {name: each for name, each in packages.items() if _OF_TORCH.fullmatch(name)}
        name = f"toygan[{','.join(extras)}]" if extras else "toygan"
        print(
            f"| `{name}` | {len(packages)} | {total_bytes(packages) / 1e6:,.0f} | "
            f"{total_bytes(torch) / 1e6:,.0f} |"
        )
