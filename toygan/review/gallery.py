"""An index in memory of the pictures that people may look at.

It is read from the metadata of a store's runs.
"""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from catalog_schemas.images import CURRENT, IMAGES, OF_CANDIDATE, REVIEW
from catalog_schemas.validation import TableError, read_parquet_bytes
from toygan.approval.reason_words import in_words
from toygan.errors import ObjectNotFound
from toygan.parallel import in_order
from toygan.planning.decisions import stored_decisions, without_undone
from toygan.planning.finished import read_manifest, run_ids
from toygan.storage.keys import CURRENT_KEY, part_key
from toygan.storage.store import ObjectStore

Show = Literal["review", "live", "decided"]

log = logging.getLogger(__name__)

FRESH_S = 2.0  # the store is read again after this time
_THREADS = 16
_COLUMNS = (
    *OF_CANDIDATE,
    *("title", "language", "decision", "reasons", "format", "attempt", "p_real", "threshold"),
    *("colour_delta_e", "conditions", "condition_sha256", "width", "height"),
)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Says which pictures are wanted. A field that is None excludes no pictures."""

    show: Show = "review"
    category: str | None = None
    reason: str | None = None
    text: str | None = None  # text that must be part of the sku or the title


class Gallery:
    """All pictures of finished runs, with the decisions of the machine and of people. Thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._parts: dict[str, pa.Table] = {}  # by key
        self._whole: set[str] = set()  # the ids of the runs whose parts have all been read
        self._complaints: set[str] = set()
        self._read_at = -FRESH_S
        self._frame = pd.DataFrame()
        self._by_id: dict[str, int] = {}
        self._by_sku: dict[str, list[int]] = {}

    def refresh(self, *, at_once: bool = False) -> None:
        """Reads new runs, the live table and the decisions, unless they were read less than FRESH_S ago."""
        with self._lock:
            if not at_once and time.monotonic() - self._read_at < FRESH_S:
                return
            if self._read_new_runs() or self._frame.empty:
                self._make_frame()
            self._mark()
            self._read_at = time.monotonic()

    def _read_new_runs(self) -> bool:
        """Reads the runs, and of incomplete ones the missing parts. Returns whether it has read any part."""
        before = len(self._parts)
        with ThreadPoolExecutor(_THREADS, "gallery") as pool:
            for run_id in run_ids(self._store):
                if run_id not in self._whole and self._read_run(run_id, pool):
                    self._whole.add(run_id)
        return len(self._parts) > before

    def _read_run(self, run_id: str, pool: ThreadPoolExecutor) -> bool:
        """Reads the parts of a run that have not been read. Returns whether the run is complete now.

        A part that cannot be read stops no other pictures, and is tried again at each refresh.
        """
        try:
            manifest = read_manifest(self._store, run_id)
        except TableError as error:
            self._complain(f"the run {run_id} is not shown: {error}")
            return False
        if manifest is None:  # somebody has just removed it
            return False
        commit = pa.scalar(manifest.commit, pa.int64())

        def read(key: str) -> pa.Table | None:
            try:
                table = read_parquet_bytes(self._store.get(key), IMAGES, key, _COLUMNS)
            except (ObjectNotFound, TableError) as error:
                self._complain(f"the page leaves out a part of the run {run_id}: {error}")
                return None
            return table.append_column("run_commit", pa.repeat(commit, table.num_rows))

        keys = [part_key(run_id, shard) for shard in range(manifest.shards)]
        keys = [key for key in keys if key not in self._parts]
        found = dict(in_order(pool, read, keys, ahead=2 * _THREADS))
        self._parts |= {key: table for key, table in found.items() if table is not None}
        return None not in found.values()

    def _complain(self, problem: str) -> None:
        """Logs a problem once, although it is met at each refresh."""
        if problem not in self._complaints:
            self._complaints.add(problem)
            log.warning("%s; see `toygan verify`", problem)

    def _make_frame(self) -> None:
        """Sorts pictures by category and score, the worst first.

        If several runs have the same id, the row of the last run is kept.
        """
        frame = pa.concat_tables(self._parts.values()).to_pandas() if self._parts else pd.DataFrame()
        if frame.empty:
            return
        frame = frame.sort_values("run_commit", kind="stable").drop_duplicates("image_id", keep="last")
        frame = frame.sort_values(["category", "p_real", "image_id"], na_position="first", ignore_index=True)
        frame["label"] = (frame["sku"] + "\n" + frame["title"].fillna("")).str.casefold()
        newest = frame[frame["decision"] == REVIEW].sort_values("run_commit", kind="stable")
        newest = newest.drop_duplicates(["sku", "image_index"], keep="last")
        frame["is_candidate"] = frame.index.isin(newest.index)
        self._frame = frame
        self._by_id = {image_id: row for row, image_id in enumerate(frame["image_id"])}
        self._by_sku = {
            str(sku): np.asarray(rows).tolist() for sku, rows in frame.groupby("sku").indices.items()
        }

    def _mark(self) -> None:
        """Sets, for each picture, whether it is live and the last decision about it."""
        frame = self._frame
        if frame.empty:
            return
        try:
            live = read_parquet_bytes(
                self._store.get(CURRENT_KEY), CURRENT, CURRENT_KEY, ("sku", "image_index", "image_id")
            ).to_pandas()
        except ObjectNotFound:
            live = pd.DataFrame({"sku": [], "image_index": [], "image_id": []})
        made = without_undone(stored_decisions(self._store)).sort_by("commit").to_pandas()
        made = made.drop_duplicates("image_id", keep="last").set_index("image_id")
        for name in ("decision", "decided_by", "decision_id", "reason"):
            frame[f"person_{name}"] = frame["image_id"].map(made[name])
        is_live = frame["image_id"].isin(live["image_id"])
        slots = pd.MultiIndex.from_frame(live[["sku", "image_index"]])
        has_live = pd.MultiIndex.from_frame(frame[["sku", "image_index"]]).isin(slots)
        is_decided = frame["person_decision"].notna()
        frame["is_live"] = is_live
        frame["is_review"] = frame["is_candidate"] & ~has_live & ~is_decided
        frame["is_decided"] = is_decided & frame["sha256"].notna()

    def page(self, wanted: Filter, *, after: str | None, count: int) -> dict[str, Any]:
        """Returns at most `count` pictures after the picture `after`, and the numbers for the filters."""
        self.refresh()
        with self._lock:
            frame = self._frame
            if frame.empty:
                return {"total": 0, "items": [], "categories": {}, "reasons": {}, "done": True}
            chosen = frame[f"is_{wanted.show}"].to_numpy(bool, copy=True)
            if wanted.text:
                chosen &= frame["label"].str.contains(wanted.text.casefold(), regex=False).to_numpy(bool)
            categories = frame["category"][chosen].value_counts().sort_index()
            if wanted.category is not None:
                chosen &= (frame["category"] == wanted.category).to_numpy(bool)
            reasons = frame["reasons"][chosen].explode().dropna().value_counts()
            if wanted.reason is not None:
                chosen &= np.array([wanted.reason in each for each in frame["reasons"]])
            rows = np.flatnonzero(chosen)
            total = len(rows)
            if after is not None:
                rows = rows[rows > self._by_id.get(after, -1)]
            return {
                "total": total,
                "items": [self._item(row) for row in rows[:count]],
                "done": len(rows) <= count,
                "categories": {str(name): int(number) for name, number in categories.items()},
                "reasons": {
                    str(name): {"words": in_words(str(name)), "count": int(number)}
                    for name, number in reasons.items()
                },
            }

    def find(self, image_id: str) -> dict[str, Any] | None:
        """Returns the metadata of a stored picture as `find_pictures` does; None for an unknown id."""
        self.refresh()
        with self._lock:
            row = self._by_id.get(image_id)
            if row is None or not isinstance(self._cell("sha256", row), str):
                return None
            values = self._frame.iloc[row]
            picture = {name: values[name] for name in (*OF_CANDIDATE, "decision", "format")}
            picture["phash"] = picture["phash"] if isinstance(picture["phash"], str) else None
            whole = {name: int(values[name]) for name in ("image_index", "run_commit")}
            return picture | whole

    def detail(self, image_id: str) -> dict[str, Any] | None:
        """Returns a picture, its conditions and the other candidates of its product.

        Returns None for an unknown id.
        """
        self.refresh()
        with self._lock:
            row = self._by_id.get(image_id)
            if row is None:
                return None
            same = self._by_sku[self._cell("sku", row)]
            others = sorted(
                (each for each in same if each != row),
                key=lambda each: (
                    int(self._cell("image_index", each)),
                    int(self._cell("attempt", each)),
                ),
            )
            conditions: dict[str, str] = dict(self._cell("condition_sha256", row))
            return {
                **self._item(row),
                "conditions": conditions,
                "others": [self._item(each) for each in others],
            }

    def is_condition(self, image_id: str, digest: str) -> bool:
        """Whether a picture was generated from the condition file with this sha256."""
        found = self.detail(image_id)
        return found is not None and digest in found["conditions"].values()

    def _cell(self, name: str, row: int) -> Any:
        return self._frame[name].iat[row]

    def _item(self, row: int) -> dict[str, Any]:
        values: Any = self._frame.iloc[row]
        return {
            "image_id": values["image_id"],
            "sku": values["sku"],
            "image_index": int(values["image_index"]),
            "category": values["category"],
            "title": _text(values["title"]),
            "language": _text(values["language"]),
            "has_file": isinstance(values["sha256"], str),
            "score": _number(values["p_real"]),
            "threshold": _number(values["threshold"]),
            "colour_delta_e": _number(values["colour_delta_e"]),
            "wanted_colour": _wanted_colour(values["conditions"]),
            "attempt": int(values["attempt"]) + 1,
            "reasons": [in_words(reason) for reason in values["reasons"] if reason],
            "machine": values["decision"],
            "live": bool(values["is_live"]),
            **{
                name: _text(values[f"person_{name}"])
                for name in ("decision", "decided_by", "decision_id", "reason")
            },
        }


def _wanted_colour(conditions: str) -> str | None:
    """Returns the wanted colour; None if there is none, or if the conditions are damaged."""
    try:
        return _text(json.loads(conditions)["colour_hex"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(f"{value:.4g}")
