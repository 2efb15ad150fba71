"""A small shop, its exports, and how tests read them."""

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path

from tests.toygan.channels.shop import Article, layout_of, toy
from toygan.channels.export import ExportRequest, ExportSummary, export
from toygan.storage.local import LocalStore

BLUE, GREEN = "#1450C8", "#148C3C"
BASE = "https://cdn.example.com/toys"
HI = 'Say "<hi>" & =1+1'


def shop() -> list[Article]:
    chinese = {"title": "积木 2x4", "language": "zh", "colour": "蓝色"}
    return [
        Article(sku="A-1", pixels=toy()),
        Article(sku="A-1", image_index=1, pixels=toy(BLUE), layout=layout_of()),
        Article(sku="积木 1", category="Toys > Bricks", pixels=toy(BLUE), **chinese),
        Article(sku="C-3", title=HI, colour=None, pixels=toy(GREEN, shadow=False)),
    ]


def run(store: LocalStore, channel: str, **more: str) -> ExportSummary:
    return export(ExportRequest(channel=channel, output=store.uri, **more))  # type: ignore[arg-type]


def place_of(store: LocalStore, channel: str) -> Path:
    return Path(store.uri) / "exports" / channel


def files(folder: Path) -> list[Path]:
    """All files below a folder, without the store's own unfinished files."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and ".tmp" not in path.parts]


def content(folder: Path) -> Mapping[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files(folder)}


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in files(folder)}


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))
