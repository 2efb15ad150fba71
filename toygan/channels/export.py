"""Exports the live pictures of a store to the place that a channel reads.

An export first writes the pictures, whose names hold a digest of their content, then the state, then the
feeds and the report. Last, it removes files that neither state nor feeds name. So it may be stopped at any
moment and run again, a feed never names a missing file, and a second run writes nothing.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from catalog_schemas.images import read_current
from toygan.channels.aigc import read_producer
from toygan.channels.collage import Collage, choose_products, collage_key, collages_csv, make_collage
from toygan.channels.credentials import read_credentials
from toygan.channels.describe import describe
from toygan.channels.feeds import FEED_KEYS, Feed, Urls, products_of, write_feeds
from toygan.channels.links import ends_with_session, make_urls
from toygan.channels.pictures import BROKEN, WHOLE, Making, make_picture, recipe_of
from toygan.channels.report import REPORT_KEY, render_report
from toygan.channels.rules import Channel, load_channel
from toygan.channels.state import Exported, State, read_state, write_state
from toygan.errors import BadInput, ObjectNotFound
from toygan.parallel import in_order
from toygan.progress import Progress
from toygan.storage.keys import CURRENT_KEY, EXPORTED_PREFIX
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

_KEPT_EVERY: Final = 1000  # the state is written after this many pictures, so that a killed run keeps them
_OURS = re.compile(re.escape(EXPORTED_PREFIX) + r"[^/]+/[^/]+/\d+-[a-z0-9-]+-[0-9a-f]{16}\.[a-z]+")
_NO_METADATA: Final = "metadata_missing"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """A request for an export."""

    channel: str
    output: str
    to: str | None = None  # the place of the export; the default is exports/<channel> in the store
    base_url: str | None = None  # the address (https://...) at which this place can be read
    presigned_days: float | None = None
    # the number of products in the collage of each category; None to make no collages
    collage: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """The result of an export."""

    channel: str
    place: str
    live: int  # pictures
    exported: int  # the number of pictures with at least one file
    made: int  # the number of pictures that this run made
    removed: int  # files
    left_out: Mapping[str, int]  # maps reasons to numbers of pictures or frames
    below_advised: int  # files
    broken: int  # the number of pictures that the store has lost or damaged
    notes: tuple[str, ...]

    def text(self) -> str:
        """Returns the summary for a person, with one fact per line."""
        lines = [
            f"{self.channel}: {self.exported:,} of {self.live:,} live pictures are in {self.place} "
            f"({self.made:,} made now, {self.removed:,} old files removed)"
        ]
        lines += [f"  left out: {reason} ({count:,})" for reason, count in self.left_out.items()]
        if self.below_advised:
            lines.append(f"  smaller than {self.channel} advises: {self.below_advised:,} files")
        lines += [f"  {note}" for note in self.notes]
        return "\n".join([*lines, f"  report: {self.place}/{REPORT_KEY}"])


def export(request: ExportRequest) -> ExportSummary:
    """Brings the export of a channel up to date.

    Raises BadInput for an unknown channel, for a bad URL and for a place with another channel's export.
    Raises Retryable if another export to the same place is running.
    """
    channel = load_channel(request.channel)
    store = open_store(request.output)
    place = open_store(request.to or f"{store.uri}/exports/{channel.name}")
    if place.uri == store.uri:
        raise BadInput(f"--to {place.uri} is the store itself; give another folder or prefix")
    urls = make_urls(place, request.base_url, request.presigned_days)
    producer = read_producer() if channel.aigc_label else None
    live = _read_live(store)
    state = read_state(place, channel.name)
    there = {info.key: info.size for info in place.list() if _is_ours(info.key)}
    making = Making(
        store=store,
        place=place,
        channel=channel,
        sizes=there,
        producer=producer,
        credentials=read_credentials(),
    )
    state, made = _make_all(making, live, state)
    rows = list(state.rows.values())
    feeds = write_feeds(channel, products_of(rows), urls)
    collages, without = _make_collages(making, live, rows, request.collage)
    if collages:
        feeds.append(collages_csv(collages, urls))
    notes = (*_notes(channel, urls), *without)
    report = render_report(channel, rows, notes)
    page = Feed(key=REPORT_KEY, content_type="text/html; charset=utf-8", data=report.encode())
    for feed in (*feeds, page):
        _put_changed(place, feed)
    named = {file.key for row in rows for file in row.files}
    named |= {feed.key for feed in feeds} | {each.key for each in collages}
    stale = [key for key in there if key not in named]
    for key in stale:
        place.delete(key)
    return _summary(channel, place, rows, made=made, removed=len(stale), notes=notes)


def _make_all(making: Making, live: Sequence[Mapping[str, Any]], state: State) -> tuple[State, int]:
    """Makes the missing pictures and writes the state. Returns the state, and how many pictures were made."""
    channel, place = making.channel, making.place
    recipes = {row["image_id"]: recipe_of(making, row) for row in live}
    surplus = _surplus(channel, live)
    kept = {
        row["image_id"]: found
        for row in live
        if (found := state.rows.get(row["image_id"])) is not None
        and _is_fresh(found, recipes[row["image_id"]], making.sizes, is_surplus=row["image_id"] in surplus)
    }
    wanted = [row for row in live if row["image_id"] not in kept]
    threads = 2 * (os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(threads, "export") as pool,
        Progress(total=len(wanted), unit="pictures", description=f"exporting to {channel.name}") as progress,
    ):
        described = describe(making.store, wanted) if wanted else {}
        make = partial(_make_one, making, described, recipes, surplus)
        for number, (row, exported) in enumerate(in_order(pool, make, wanted, ahead=4 * threads), 1):
            kept[row["image_id"]] = exported
            progress.advance()
            if number % _KEPT_EVERY == 0:
                state = write_state(place, channel.name, _in_order(live, kept), state)
    return write_state(place, channel.name, _in_order(live, kept), state), len(wanted)


def _make_collages(
    making: Making, live: Sequence[Mapping[str, Any]], rows: Sequence[Exported], count: int | None
) -> tuple[list[Collage], tuple[str, ...]]:
    """Makes the missing collages. Returns all collages, and a note on categories without a collage."""
    if count is None:
        return [], ()
    chosen = choose_products(live, rows, count)
    keys = {category: collage_key(making, category, of_it, count) for category, of_it in chosen.items()}
    missing = {category: chosen[category] for category, key in keys.items() if making.size_of(key) is None}
    described = describe(making.store, [row for of_it in missing.values() for row in of_it])
    without = [
        category
        for category, of_it in missing.items()
        if not make_collage(making, keys[category], of_it, described, count)
    ]
    made = [Collage(key=key, category=category) for category, key in keys.items() if category not in without]
    needed = f"{count} products with a certain outline and enough pixels"
    note = f"No collage of {', '.join(without)}: it needs {needed}"
    return made, (note,) if without else ()


def _make_one(
    making: Making,
    described: Mapping[str, Mapping[str, Any]],
    recipes: Mapping[str, str],
    surplus: frozenset[str],
    row: Mapping[str, Any],
) -> Exported:
    found, recipe = described.get(row["image_id"]), recipes[row["image_id"]]
    if found is not None and row["image_id"] not in surplus:
        return make_picture(making, row, found, recipe)
    reason = _NO_METADATA if found is None else _surplus_reason(making.channel)
    return Exported(
        image_id=row["image_id"],
        recipe=recipe,
        sku=row["sku"],
        image_index=row["image_index"],
        category=row["category"],
        title=found["title"] if found else None,
        language=found["language"] if found else None,
        handle=found["handle"] if found else None,
        alt="",
        left_out={WHOLE: reason},
        files=(),
    )


def _is_fresh(found: Exported, recipe: str, sizes: Mapping[str, int], *, is_surplus: bool) -> bool:
    if found.recipe != recipe or (found.left_out.get(WHOLE, "").startswith("too_many")) != is_surplus:
        return False
    # Pictures that the store had lost or damaged are tried again: the store may have been repaired.
    if found.left_out.get(WHOLE) in (*BROKEN, _NO_METADATA):
        return False
    return all(sizes.get(file.key) == file.bytes for file in found.files)


def _surplus(channel: Channel, live: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Returns the ids of the pictures that exceed the channel's largest number of pictures for a product."""
    count: Counter[str] = Counter()
    beyond = set()
    for row in live:
        count[row["sku"]] += 1
        if count[row["sku"]] > channel.most_pictures:
            beyond.add(row["image_id"])
    return frozenset(beyond)


def _surplus_reason(channel: Channel) -> str:
    return f"too_many: {channel.most_pictures} pictures of a product are the most"


def _in_order(live: Iterable[Mapping[str, Any]], kept: Mapping[str, Exported]) -> list[Exported]:
    return [kept[row["image_id"]] for row in live if row["image_id"] in kept]


def _read_live(store: ObjectStore) -> list[dict[str, Any]]:
    """Returns the rows of `current.parquet`, sorted by sku and image index."""
    try:
        table = read_current(store.get(CURRENT_KEY))
    except ObjectNotFound:
        raise BadInput(f"{store.uri} has no live pictures yet; run `toygan generate` first") from None
    wanted = ["sku", "image_index", "image_id", "category", "image_uri", "sha256", "run_id"]
    wanted += ["model_name", "model_version"]
    rows: list[dict[str, Any]] = table.select(wanted).to_pylist()
    return sorted(rows, key=lambda row: (row["sku"], row["image_index"]))


def _notes(channel: Channel, urls: Urls | None) -> tuple[str, ...]:
    notes = []
    if channel.role == "secondary":
        notes.append(f"Only as additional pictures: {channel.role_reason}")
    missing = [name for name in channel.feeds if name != "pictures-csv"]
    if urls is None and missing:
        notes.append(f"No {', '.join(missing)} feed: give --base-url or --presigned-days")
    if urls is not None and ends_with_session(urls(REPORT_KEY)):
        notes.append(
            "The links end with the temporary credentials that signed them, maybe before --presigned-days: "
            "use keys without AWS_SESSION_TOKEN"
        )
    return tuple(notes)


def _put_changed(place: ObjectStore, feed: Feed) -> None:
    try:
        if place.get(feed.key) == feed.data:
            return
    except ObjectNotFound:
        pass
    place.put(feed.key, feed.data, content_type=feed.content_type, cache_control="no-cache")


def _is_ours(key: str) -> bool:
    """Whether an export has written this file. Only such files are ever removed from the place."""
    return bool(_OURS.fullmatch(key)) or key in FEED_KEYS


def _summary(
    channel: Channel,
    place: ObjectStore,
    rows: Sequence[Exported],
    *,
    made: int,
    removed: int,
    notes: tuple[str, ...],
) -> ExportSummary:
    reasons = Counter(
        (f"{frame}: " if frame else "") + reason.partition(":")[0]
        for row in rows
        for frame, reason in row.left_out.items()
    )
    broken = sum(row.left_out.get(WHOLE) in (*BROKEN, _NO_METADATA) for row in rows)
    return ExportSummary(
        channel=channel.name,
        place=place.uri,
        live=len(rows),
        exported=sum(bool(row.files) for row in rows),
        made=made,
        removed=removed,
        left_out=dict(sorted(reasons.items())),
        below_advised=sum(file.below_advised for row in rows for file in row.files),
        broken=broken,
        notes=notes,
    )
