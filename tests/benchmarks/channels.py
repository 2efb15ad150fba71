"""Exports to every channel, checked by the tests' checker; signatures; catalogs as shops have them.

    python -m tests.benchmarks.channels [--pictures 300] [--channel NAME]... [--keep DIR] [--photos DIR]

The pictures are generated from the bundled demo's catalog, three a product, which takes seven minutes of a
core; --keep keeps them for the next time. Of two pictures of a product that look alike toygan approves one;
the other is approved as a person would, until there are enough.

With --photos, a folder of *.parquet with the columns sku, category, title, colour, photo and layout, real
photos are exported instead: every second one with its layout, the others by what the measures find.
"""

import argparse
import io
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from catalog_schemas.images import read_current
from flows.local import run_generate
from tests.toygan.channels.certificates import put_credentials
from tests.toygan.channels.checker import violations
from tests.toygan.channels.shop import Article, put_shop, toy
from toygan.channels.credentials import CERT_VARIABLE, KEY_VARIABLE, read_credentials, read_manifest
from toygan.channels.encoding import MIME_TYPES, encode_file
from toygan.channels.export import ExportRequest, export
from toygan.channels.rules import FileFormat, channel_names
from toygan.planning.catalog_check import look_at_catalog
from toygan.review.record import decide
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.local import LocalStore
from toygan.xmp import xmp_packet

PER_PRODUCT = 3  # pictures
SIGNATURES = 1_000
SIGNED: tuple[FileFormat, ...] = ("jpg", "png", "webp")
ROWS, CHINESE_ROWS = 100_000, 1_000


def read_articles(folder: Path, count: int) -> list[Article]:
    """The photos of the categories in turn."""
    articles: list[Article] = []
    for file in sorted(folder.glob("*.parquet")):
        columns = ["sku", "category", "title", "colour", "photo", "layout"]
        for row in pq.read_table(file, columns=columns).to_pylist():
            photo, layout = (Image.open(io.BytesIO(row[name])) for name in ("photo", "layout"))
            articles.append(
                Article(
                    sku=row["sku"],
                    category=row["category"],
                    title=row["title"],
                    colour=row["colour"],
                    pixels=np.asarray(photo.convert("RGB")),
                    layout=np.asarray(layout) if len(articles) % 2 else None,
                )
            )
    step = max(1, len(articles) // count)
    by_sku = {article.sku: article for article in articles[::step]}
    return list(by_sku.values())[:count]


def make_store(folder: Path, pictures: int) -> LocalStore:
    """A store with this many live pictures of the demo's products, or as many as there are."""
    store = LocalStore(folder)
    if not store.exists(CURRENT_KEY):
        catalog = str(files("toygan.pretrained") / "demo_catalog.parquet")
        summary = run_generate(
            catalog=catalog, columns=(), run_id=None, output=store.uri, images_per_product=PER_PRODUCT
        )
        print(summary.text(), flush=True)
    more = pictures - len(read_current(store.get(CURRENT_KEY)))
    waiting = [
        row["image_id"]
        for part in sorted(folder.glob("metadata/run=*/part-*.parquet"))
        for row in pq.read_table(part, columns=["image_id", "image_uri", "reasons"]).to_pylist()
        if row["image_uri"] is not None and row["reasons"] == ["near_copy"]
    ]
    if more > 0:
        decide(store, "approve", waiting[:more], by="benchmark", reason=None)
    return store


def measure_channel(name: str, store: LocalStore, place: Path) -> None:
    request = ExportRequest(channel=name, output=store.uri, to=str(place))
    began_s = time.process_time()
    summary = export(request)
    cpu_s = time.process_time() - began_s
    made = list((place / "pictures").rglob("*.*"))
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.*")}
    again = export(request)
    written = sum(before.get(path) != path.stat().st_mtime_ns for path in place.rglob("*.*"))
    found = violations(name, place)
    print(
        f"{name}: {summary.exported} of {summary.live} exported as {len(made)} files, "
        f"{summary.live / cpu_s:.1f} pictures and {len(made) / cpu_s:.1f} files a CPU second; "
        f"left out {dict(summary.left_out)}; second export made {again.made} and wrote {written} files; "
        f"{len(found)} violations",
        flush=True,
    )
    for line in found[:5]:
        print("   ", line)


def measure_signatures(folder: Path) -> None:
    """Signs and reads back, in JPEG, PNG and WebP in turn."""
    certificate, key = put_credentials(folder)
    os.environ |= {CERT_VARIABLE: str(certificate), KEY_VARIABLE: str(key)}
    credentials = read_credentials()
    del os.environ[CERT_VARIABLE], os.environ[KEY_VARIABLE]
    assert credentials is not None
    states: Counter[str] = Counter()
    image, sign_s, read_s = Image.fromarray(toy()), 0.0, 0.0
    files = {name: encode_file(image, name, 90, xmp_packet()) for name in SIGNED}
    for number in range(SIGNATURES):
        name = SIGNED[number % 3]
        began_s = time.process_time()
        signed = credentials.sign(files[name], MIME_TYPES[name], "toybricks", "0123456789ab")
        signed_s = time.process_time()
        content = read_manifest(signed, MIME_TYPES[name])
        sign_s, read_s = sign_s + signed_s - began_s, read_s + time.process_time() - signed_s
        states[f"{name} {content['validation_state'] if content else 'unsigned'}"] += 1
    print(
        f"{SIGNATURES} signatures: {dict(states)}; {1000 * sign_s / SIGNATURES:.1f} ms to sign, "
        f"{1000 * read_s / SIGNATURES:.1f} ms to read",
        flush=True,
    )


def measure_catalogs(folder: Path) -> None:
    """Checks a large CSV, and a Chinese one in GB 18030."""
    large, chinese = folder / "large.csv", folder / "chinese.csv"
    kinds = ("Brick", "Car", "Tree", "Wheel")
    rows = (f'S-{n},{kinds[n % 4]},"{kinds[n % 4]} {n}, red",red,19.90' for n in range(ROWS))
    large.write_text("sku,category,title,colour,price\n" + "\n".join(rows), encoding="utf-8")
    rows = (f"积木-{n},积木,{n} 号红色积木,红色,zh" for n in range(CHINESE_ROWS))
    chinese.write_bytes(("sku,category,title,colour,language\n" + "\n".join(rows)).encode("gb18030"))
    for file in (large, chinese):
        began_s = time.monotonic()
        found = look_at_catalog(str(file), {})
        print(
            f"{file.name}: {found.format}; {found.good} rows good, {found.set_aside} set aside, "
            f"{time.monotonic() - began_s:.1f} s",
            flush=True,
        )


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--channel", action="append")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TOYGAN_AIGC_PRODUCER", "Benchmark")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.photos:
            store = LocalStore(folder / "photos")
            put_shop(store, read_articles(options.photos, options.pictures))
        else:
            store = make_store(folder / "store", options.pictures)
        for name in options.channel or channel_names():
            shutil.rmtree(folder / name, ignore_errors=True)
            measure_channel(name, store, folder / name)
        measure_signatures(folder / "keys")
        measure_catalogs(folder)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
