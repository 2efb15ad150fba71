"""Whether a store is whole, and what in it nobody needs any more.

Whole means: every part that a finished run counts is there; every metadata row that names a picture has it,
with that sha256; so has every row that names a sketch or a layout it was drawn from; no run names a picture
twice; `current.parquet` names only pictures that a finished run approved; and nothing lies under images/,
review/ or conditions/ that no finished run names.

A run that was started and not finished (its frozen plan lies under .tmp/<run_id>/, its manifest is missing)
is no problem: it can be taken up again under its run id, so what it made so far is neither missing nor left
over. Whoever gives such a run up removes .tmp/<run_id>/; from then on its pictures and parts are left over.
"""

import hashlib
import re
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.images import APPROVED, CURRENT, IMAGES, REVIEW, read_current
from catalog_schemas.runs import Manifest, read_plan
from catalog_schemas.validation import TableError, read_parquet_bytes
from toygan.errors import BadInput, ObjectNotFound, StoreConfigError
from toygan.parallel import in_order
from toygan.storage.keys import (
    CONDITIONS_PREFIX,
    CURRENT_KEY,
    IMAGES_PREFIX,
    METADATA_PREFIX,
    REVIEW_PREFIX,
    RUNS_PREFIX,
    condition_key,
    image_key,
    part_key,
    plan_manifest_key,
    review_key,
)
from toygan.storage.store import TMP_PREFIX, ObjectStore

_THREADS = 16
_AHEAD = 4 * _THREADS  # requests under way: bounds the memory, whatever the size of the store
_PART = re.compile(re.escape(METADATA_PREFIX) + r"run=([^/]+)/part-[0-9]+\.parquet")
_PLAN = re.compile(re.escape(TMP_PREFIX) + r"([^/]+)/plan\.json")
_PLANNING = re.compile(re.escape(TMP_PREFIX) + r"([^/]+)/planning")
_PLAN_SHARD = re.compile(re.escape(TMP_PREFIX) + r"([^/]+)/plan/[0-9]+\.parquet")
_MANIFEST = re.compile(re.escape(RUNS_PREFIX) + r"([^/]+)\.json")
_ROW_COLUMNS = (*CURRENT.names, "decision", "format", "condition_sha256")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verify found; the store is whole when there are no problems."""

    problems: tuple[str, ...]  # each a line for a person, left-over objects included
    left_over: tuple[str, ...]  # keys that prune would remove
    open_runs: tuple[str, ...]  # ids of runs that were started and can be finished
    finished_runs: int
    pictures: int  # how many were read and compared
    conditions: int  # how many kept sketches and layouts were, too


def verify(store: ObjectStore, *, advance: Callable[[int], object] = lambda count: None) -> Verdict:
    """Read the whole store and compare; `advance(1)` is called after each picture, from the calling thread.

    Raises StoreConfigError where there is nothing at all: a mistyped URI is not taken for a whole store.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        survey = _look_around(store, pool)
        problems = list(survey.problems)
        named = {**survey.conditions, **survey.named}
        compared = in_order(pool, lambda uri: _compare(store, uri, *named[uri]), sorted(named), ahead=_AHEAD)
        for uri, problem in compared:
            if uri in survey.named:
                advance(1)
            problems += [problem] if problem else []
    left_over = survey.left_over()
    problems += [f"{key}: left over, no finished run names it; --prune removes it" for key in left_over]
    if survey.blind:
        problems.append(
            "left-over objects were not looked for: what is needed is not known while the above holds"
        )
    return Verdict(
        problems=tuple(problems),
        left_over=tuple(left_over),
        open_runs=tuple(sorted(survey.open_runs)),
        finished_runs=len(survey.manifests),
        pictures=len(survey.named),
        conditions=len(survey.conditions),
    )


def prune(store: ObjectStore) -> list[str]:
    """Remove what is left over, and the unfinished files of finished runs; return the keys that were removed.

    Nothing is removed while a manifest, a part or a plan cannot be read: what they name is not known then.
    Parts go before pictures, so a prune that is cut short leaves no row without its picture.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        survey = _look_around(store, pool)
        if survey.blind:
            return []
        left_over = survey.left_over()
        parts = [key for key in left_over if key.startswith(METADATA_PREFIX)]
        pictures = [key for key in left_over if not key.startswith(METADATA_PREFIX)]
        for keys in (parts, pictures, survey.swept):
            deque(in_order(pool, store.delete, keys, ahead=_AHEAD), maxlen=0)
    return [*parts, *pictures, *survey.swept]


@dataclass(kw_only=True)
class _Survey:
    """What is in a store by its tables and listings; no picture is read for it."""

    problems: list[str] = field(default_factory=list)
    blind: bool = False  # something that names pictures could not be read
    objects: set[str] = field(default_factory=set)  # keys under images/, review/ and conditions/
    named: dict[str, tuple[str, str]] = field(default_factory=dict)  # picture: its sha256, the part naming it
    conditions: dict[str, tuple[str, str]] = field(default_factory=dict)  # the same of sketches and layouts
    planned: set[str] = field(default_factory=set)  # keys of sketches and layouts that open runs draw from
    live: dict[str, bytes] = field(default_factory=dict)  # image ids of current.parquet not met in a part yet
    manifests: dict[str, Manifest] = field(default_factory=dict)
    open_runs: set[str] = field(default_factory=set)
    open_folders: set[str] = field(default_factory=set)  # where open runs may put pictures at any time
    stray_parts: list[str] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)  # unfinished files of finished runs

    def left_over(self) -> list[str]:
        """Sorted keys that no run needs; none while something could not be read."""
        if self.blind:
            return []
        unnamed = self.objects - self.named.keys() - self.conditions.keys() - self.planned
        strays = [key for key in unnamed if key.rpartition("/")[0] + "/" not in self.open_folders]
        return sorted(strays + self.stray_parts)

    def complain(self, problem: str, *, blind: bool = False) -> None:
        """Note a problem; `blind` if it hides what is left over."""
        self.problems.append(problem)
        self.blind = self.blind or blind


class _Moved(Exception):
    """A run was finished while its plan was being read."""


def _look_around(store: ObjectStore, pool: ThreadPoolExecutor) -> _Survey:
    while True:
        try:
            return _survey(store, pool)
        except _Moved:
            continue


def _survey(store: ObjectStore, pool: ThreadPoolExecutor) -> _Survey:
    """Survey a store in which runs may be under way.

    The order protects them: the live table is read before the manifests, so those name all that it names, and
    pictures and parts are listed before plans and plans before manifests, so of a run that made one that is
    listed the plan or the manifest is seen.
    """
    survey = _Survey()
    current = _read_current(store, survey)
    for prefix in (IMAGES_PREFIX, REVIEW_PREFIX, CONDITIONS_PREFIX):
        survey.objects.update(info.key for info in store.list(prefix))
    parts = [info.key for info in store.list(METADATA_PREFIX) if _PART.fullmatch(info.key)]
    unfinished = [info.key for info in store.list(TMP_PREFIX)]
    _read_manifests(store, survey)
    if not unfinished and not any(True for _ in store.list()):
        raise StoreConfigError(f"{store.uri}: there is nothing here; check the URI")
    _sort_unfinished(store, survey, unfinished, pool)
    _read_parts(store, survey, parts, pool)
    if survey.live:
        unmet = current.filter(
            pc.is_in(current["image_id"], value_set=pa.array(list(survey.live), pa.string()))
        )
        for row in unmet.select(["sku", "image_index", "image_id", "run_id"]).to_pylist():
            survey.complain(
                f"{CURRENT_KEY}: {row['sku']}, image {row['image_index']}: the picture {row['image_id']} "
                f"of the run {row['run_id']} is not among those that finished runs approved, or differs",
                blind=True,
            )
    return survey


def _read_current(store: ObjectStore, survey: _Survey) -> pa.Table:
    try:
        table = read_current(store.get(CURRENT_KEY))
    except ObjectNotFound:
        return CURRENT.empty_table()
    except (TableError, BadInput) as error:
        survey.complain(str(error))
        return CURRENT.empty_table()
    for row in table.to_pylist():
        if row["image_id"] in survey.live:
            survey.complain(f"{CURRENT_KEY}: the image {row['image_id']} is there twice")
        survey.live[row["image_id"]] = _digest(row)
    return table


def _read_manifests(store: ObjectStore, survey: _Survey) -> None:
    for info in store.list(RUNS_PREFIX):
        match = _MANIFEST.fullmatch(info.key)
        if not match:
            continue
        try:
            manifest = Manifest.from_json(store.get(info.key), info.key)
        except (TableError, BadInput) as error:
            survey.complain(str(error), blind=True)
            continue
        if manifest.run_id != match[1]:
            survey.complain(f"{info.key}: is the manifest of another run, {manifest.run_id}", blind=True)
            continue
        survey.manifests[manifest.run_id] = manifest


def _sort_unfinished(store: ObjectStore, survey: _Survey, keys: list[str], pool: ThreadPoolExecutor) -> None:
    """Tell the files of finished runs from the plans of open ones; learn what these draw from, and put where.

    A run whose plan is not frozen yet may keep sketches and layouts that no table names before it is.
    """
    for key in keys:
        if key.split("/")[1] in survey.manifests:
            survey.swept.append(key)
        elif match := _PLAN.fullmatch(key):
            survey.open_runs.add(match[1])
            survey.open_folders.add(f"{REVIEW_PREFIX}run={match[1]}/")
    planning = {match[1] for key in keys if (match := _PLANNING.fullmatch(key))}
    if planning - survey.manifests.keys() - survey.open_runs:
        survey.open_folders.add(CONDITIONS_PREFIX)
    shards = [key for key in keys if (match := _PLAN_SHARD.fullmatch(key)) and match[1] in survey.open_runs]
    for key, table in in_order(pool, lambda key: _read_table(store, key, read_plan), shards, ahead=_AHEAD):
        if table is None and not all(store.exists(plan_manifest_key(run_id)) for run_id in survey.open_runs):
            raise _Moved
        if not isinstance(table, pa.Table):
            survey.complain(table or f"{key}: missing, although its plan is complete", blind=True)
            continue
        for row in table.to_pylist():
            survey.open_folders.add(f"{IMAGES_PREFIX}{row['category']}/{row['sku']}/")
            if row["image_condition"]:
                survey.planned.add(condition_key(dict(row["condition_sha256"])[row["image_condition"]]))


def _read_parts(store: ObjectStore, survey: _Survey, parts: list[str], pool: ThreadPoolExecutor) -> None:
    """Take in the rows of the parts that finished runs count and of those of `parts` that open runs made."""
    run_of = {
        part_key(run_id, shard): run_id
        for run_id, manifest in survey.manifests.items()
        for shard in range(manifest.shards)
    }
    for key in parts:
        match = _PART.fullmatch(key)
        if match and match[1] in survey.open_runs:
            run_of[key] = match[1]
        elif key not in run_of:
            survey.stray_parts.append(key)
    seen: set[str] = set()
    last = ""
    for key, table in in_order(
        pool, lambda key: _read_table(store, key, _read_part), sorted(run_of), ahead=_AHEAD
    ):
        if run_of[key] != last:
            seen.clear()
            last = run_of[key]
        if not isinstance(table, pa.Table):
            survey.complain(table or f"{key}: missing, although its run is finished", blind=True)
        else:
            for row in table.to_pylist():
                _take_row(survey, row, key, last, seen)


def _take_row(survey: _Survey, row: dict[str, Any], key: str, run_id: str, seen: set[str]) -> None:
    """Check one metadata row by itself, and note which picture it names."""
    image_id, uri, sha256 = row["image_id"], row["image_uri"], row["sha256"]
    if image_id in seen:
        survey.complain(f"{key}: the image {image_id} is there twice in this run")
    seen.add(image_id)
    if row["run_id"] != run_id:
        survey.complain(f"{key}: the image {image_id} says that it is of the run {row['run_id']}")
    place = _place(row)
    if uri != place:
        survey.complain(f"{key}: the image {image_id} ({row['decision']}) names {uri}, its place is {place}")
    if uri is not None:
        known = survey.named.setdefault(uri, (sha256, key))
        if known[0] != sha256:
            survey.complain(f"{uri}: has the sha256 {known[0]} in {known[1]} and {sha256} in {key}")
    for digest in dict(row["condition_sha256"]).values():
        try:
            survey.conditions.setdefault(condition_key(digest), (digest, key))
        except BadInput as error:
            survey.complain(f"{key}: the image {image_id}: {error}")
    is_live = row["decision"] == APPROVED and run_id in survey.manifests
    if is_live and survey.live.get(image_id) == _digest(row):
        del survey.live[image_id]


def _place(row: dict[str, Any]) -> str | None:
    """Where the picture of a row has to lie; None if it should have none."""
    try:
        if row["decision"] == APPROVED:
            return image_key(row["category"], row["sku"], row["image_id"], row["format"])
        if row["decision"] == REVIEW:
            return review_key(row["run_id"], row["image_id"], row["format"])
    except BadInput as error:
        return f"nowhere: {error}"
    return None


def _digest(row: dict[str, Any]) -> bytes:
    """Stands for all that current.parquet says of a picture, in less memory."""
    text = "\x1f".join(str(row[name]) for name in CURRENT.names)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _read_table(
    store: ObjectStore, key: str, read: Callable[[bytes, str], pa.Table]
) -> pa.Table | str | None:
    """A table in the store, or what is wrong with it, or None where there is none."""
    try:
        return read(store.get(key), key)
    except ObjectNotFound:
        return None
    except (TableError, BadInput) as error:
        return str(error)


def _read_part(data: bytes, key: str) -> pa.Table:
    return read_parquet_bytes(data, IMAGES, key, _ROW_COLUMNS)


def _compare(store: ObjectStore, uri: str, sha256: str, part: str) -> str | None:
    """What is wrong with the object of a picture, if anything."""
    try:
        found = hashlib.sha256(store.get(uri)).hexdigest()
    except ObjectNotFound:
        return f"{uri}: missing, although {part} names it"
    except BadInput as error:
        return f"{part}: {error}"
    return None if found == sha256 else f"{uri}: has the sha256 {found}, but {sha256} in {part}"
