"""Surveys a store by its tables and listings, and finds the objects that no run needs; reads no picture."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import APPROVE, DECISIONS, RETIRE
from catalog_schemas.images import (
    APPROVED,
    ATTEMPTS,
    CURRENT,
    MACHINE,
    read_current,
)
from catalog_schemas.runs import Manifest, read_plan
from catalog_schemas.validation import NAME_PATTERN, TableError
from toygan.errors import BadInput, ObjectNotFound, StoreConfigError
from toygan.parallel import in_order
from toygan.planning.attempts import attempts_of, read_attempts
from toygan.planning.decisions import merge_decisions, stored_decisions, verdicts
from toygan.planning.finished import read_manifest
from toygan.planning.pruning import read_pruning
from toygan.publishing.commit_log import Commits, read_commits
from toygan.publishing.decided import decision_keys, parse_decided
from toygan.publishing.live_table import approved_of
from toygan.publishing.survey_tables import digest_of, give_up, place_of, read_part, read_table
from toygan.storage.keys import (
    CONDITIONS_PREFIX,
    CURRENT_KEY,
    IMAGES_PREFIX,
    METADATA_PREFIX,
    REVIEW_PREFIX,
    RUNS_PREFIX,
    condition_key,
    image_prefix,
    part_key,
    plan_manifest_key,
    tmp_prefix,
)
from toygan.storage.store import TMP_PREFIX, ObjectStore

RETIRED_DAYS = 30  # the file of a retired picture is kept for this number of days
_Table = TypeVar("_Table")
_AHEAD = 64  # the number of concurrent requests, which limits the memory
_PART = re.compile(re.escape(METADATA_PREFIX) + r"run=([^/]+)/part-[0-9]+\.parquet")
_PLAN = re.compile(re.escape(TMP_PREFIX) + r"([^/]+)/plan\.json")
_PLANNING = re.compile(re.escape(TMP_PREFIX) + r"([^/]+)/planning")
_PLAN_SHARD = re.compile(re.escape(TMP_PREFIX) + r"([^/]+)/plan/[0-9]+\.parquet")
_MANIFEST = re.compile(re.escape(RUNS_PREFIX) + rf"({NAME_PATTERN})\.json")
_IMAGE_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{20}(?![0-9a-f])")


@dataclass(kw_only=True)
class Survey:
    """The content of a store according to its tables and listings."""

    problems: list[str] = field(default_factory=list)
    blind: bool = False  # whether an object that names pictures could not be read
    unreadable: set[str] = field(default_factory=set)  # ids of finished runs of which a file cannot be read
    objects: set[str] = field(default_factory=set)  # keys under images/, review/ and conditions/
    # maps the keys of pictures to (sha256, part)
    named: dict[str, tuple[str, str]] = field(default_factory=dict)
    # maps the keys of condition files to (sha256, part)
    conditions: dict[str, tuple[str, str]] = field(default_factory=dict)
    planned: set[str] = field(default_factory=set)  # keys of condition files that open runs use
    live: dict[str, bytes] = field(
        default_factory=dict
    )  # image ids of current.parquet not yet found in a part
    manifests: dict[str, Manifest] = field(default_factory=dict)
    open_runs: set[str] = field(default_factory=set)
    open_folders: set[str] = field(default_factory=set)  # folders to which open runs may add pictures
    # ids of runs that are being planned and may need any object; approvals have such ids, too
    planning: set[str] = field(default_factory=set)
    decided: set[str] = field(default_factory=set)  # ids of pictures that people decided about
    # the decisions, read from all their objects
    decisions: pa.Table = field(default_factory=DECISIONS.empty_table)
    # maps ids of decisions to the keys of their objects
    decision_keys: dict[str, str] = field(default_factory=dict)
    # maps image ids to people's approvals
    approvals: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)  # ids of pictures retired RETIRED_DAYS ago or earlier
    # The summaries. They are read in the order below, before everything else.
    commits: Commits | None = None
    stored_attempts: pa.Table = field(default_factory=ATTEMPTS.empty_table)
    stored_decisions: pa.Table = field(default_factory=DECISIONS.empty_table)
    current: pa.Table = field(default_factory=CURRENT.empty_table)
    # maps ids of finished runs to their attempts, a table for each part
    attempts: dict[str, list[pa.Table]] = field(default_factory=dict)
    # maps the same ids to their approved rows, as tables of CURRENT
    approved: dict[str, list[pa.Table]] = field(default_factory=dict)
    stray_parts: list[str] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)  # unfinished files of finished runs

    def left_over(self) -> list[str]:
        """Returns the sorted keys that no run needs; an empty list if something could not be read."""
        if self.blind:
            return []
        unnamed = self.objects - self.named.keys() - self.conditions.keys() - self.planned
        return sorted([*filter(self._is_stray, unnamed), *self.stray_parts])

    def _is_stray(self, key: str) -> bool:
        """Whether an object that no table names is left over, and not protected by a run or a decision."""
        folder, _, name = key.rpartition("/")
        image_id = name.partition(".")[0]
        if self.planning and (key.startswith((IMAGES_PREFIX, CONDITIONS_PREFIX)) or image_id in self.retired):
            return False
        return folder + "/" not in self.open_folders and image_id not in self.decided

    def complain(self, problem: str, *, blind: bool = False) -> None:
        """Adds a problem.

        `blind` says that because of this problem, left-over objects cannot be determined.
        """
        self.problems.append(problem)
        self.blind = self.blind or blind


class _Moved(Exception):
    """A run was finished while its plan was being read."""


def look_around(store: ObjectStore, pool: ThreadPoolExecutor) -> Survey:
    while True:
        try:
            return _survey(store, pool)
        except _Moved:
            continue


def _survey(store: ObjectStore, pool: ThreadPoolExecutor) -> Survey:
    """Surveys a store in which runs may be in progress.

    The order of reading protects these runs. The live table is read before the manifests, so that the
    manifests cover all its pictures. Pictures and parts are listed before plans, and plans before manifests,
    so that each listed picture or part belongs to a known plan or manifest. Marks are listed before
    decisions, because a mark protects a retired picture until the decision about it is stored.
    """
    survey = Survey()
    survey.commits = _read_summary(survey, store, read_commits, None)
    survey.stored_attempts = _read_summary(survey, store, read_attempts, survey.stored_attempts)
    survey.stored_decisions = _read_summary(survey, store, stored_decisions, survey.stored_decisions)
    _read_summary(survey, store, read_pruning, None)
    survey.current = _read_current(store, survey)
    for prefix in (IMAGES_PREFIX, REVIEW_PREFIX, CONDITIONS_PREFIX):
        survey.objects.update(info.key for info in store.list(prefix))
    parts = [info.key for info in store.list(METADATA_PREFIX) if _PART.fullmatch(info.key)]
    unfinished = [info.key for info in store.list(TMP_PREFIX)]
    _read_decisions(store, survey, pool)
    _read_manifests(store, survey)
    if not unfinished and not any(True for _ in store.list()):
        raise StoreConfigError(f"{store.uri}: there is nothing here; check the URI")
    _sort_unfinished(store, survey, unfinished, pool)
    _read_parts(store, survey, parts, pool)
    if survey.live:
        unmet = survey.current.filter(
            pc.is_in(survey.current["image_id"], value_set=pa.array(list(survey.live), pa.string()))
        )
        for row in unmet.select(["sku", "image_index", "image_id", "run_id"]).to_pylist():
            if row["run_id"] in survey.unreadable:
                continue  # the line about the file that cannot be read says enough
            survey.complain(
                f"{CURRENT_KEY}: {row['sku']}, image {row['image_index']}: the picture {row['image_id']} "
                f"of the run {row['run_id']} is not among those that finished runs approved, or differs; "
                f"remove {CURRENT_KEY} and state/; the next run makes them again",
                blind=True,
            )
    return survey


def _read_summary(
    survey: Survey, store: ObjectStore, read: Callable[[ObjectStore], _Table], empty: _Table
) -> _Table:
    """Returns what `read` returns; `empty` if it is damaged, which becomes a problem."""
    try:
        return read(store)
    except BadInput as error:
        survey.complain(str(error))
        return empty


def _read_current(store: ObjectStore, survey: Survey) -> pa.Table:
    try:
        table = read_current(store.get(CURRENT_KEY))
    except ObjectNotFound:
        return CURRENT.empty_table()
    except TableError as error:
        survey.complain(str(error))
        return CURRENT.empty_table()
    for row in table.to_pylist():
        if row["image_id"] in survey.live:
            survey.complain(f"{CURRENT_KEY}: the picture {row['image_id']} is there twice")
        survey.live[row["image_id"]] = digest_of(row)
    return table


def _read_decisions(store: ObjectStore, survey: Survey, pool: ThreadPoolExecutor) -> None:
    """Reads all decisions. A damaged decision still protects the pictures whose ids are in its bytes."""
    tables = []
    for key, data in in_order(pool, store.get, decision_keys(store), ahead=_AHEAD):
        survey.decided |= {found.decode() for found in _IMAGE_ID.findall(data)}
        try:
            table = parse_decided(data, key)
        except TableError as error:
            survey.complain(f"{error}; restore it from a copy, or remove it and decide again")
            continue
        tables.append(table)
        survey.decided.update(table["image_id"].to_pylist())
        survey.decision_keys.update(dict.fromkeys(table["decision_id"].to_pylist(), key))
    survey.decisions = merge_decisions(tables)
    approved = survey.decisions.filter(pc.equal(survey.decisions["decision"], APPROVE))
    for row in approved.select(["image_id", "commit", "decided_by", "phash"]).to_pylist():
        survey.approvals.setdefault(row["image_id"], []).append(row)
    last = verdicts(survey.decisions)
    last = last.filter(pc.equal(last["decision"], RETIRE))
    before = datetime.now(UTC) - timedelta(days=RETIRED_DAYS)
    old = last.filter(pc.less(last["decided_at"], pa.scalar(before, last["decided_at"].type)))
    survey.retired = set(old["image_id"].to_pylist())
    survey.decided -= survey.retired


def _read_manifests(store: ObjectStore, survey: Survey) -> None:
    for info in store.list(RUNS_PREFIX):
        match = _MANIFEST.fullmatch(info.key)
        if not match:
            continue
        try:
            manifest = read_manifest(store, match[1])
        except TableError as error:
            survey.complain(f"{error}; {give_up(match[1])}", blind=True)
            survey.unreadable.add(match[1])
            continue
        if manifest is not None:  # it is gone if somebody gave the run up meanwhile
            survey.manifests[manifest.run_id] = manifest


def _sort_unfinished(store: ObjectStore, survey: Survey, keys: list[str], pool: ThreadPoolExecutor) -> None:
    """Separates unfinished files of finished runs from plans of open runs. Reads what the plans may need.

    A run whose plan is not frozen yet may rely on any object that existed when its planning began.
    """
    for key in keys:
        if key.split("/")[1] in survey.manifests:
            survey.swept.append(key)
        elif match := _PLAN.fullmatch(key):
            survey.open_runs.add(match[1])
            survey.open_folders.add(f"{REVIEW_PREFIX}run={match[1]}/")
    planning = {match[1] for key in keys if (match := _PLANNING.fullmatch(key))}
    survey.planning = planning - survey.manifests.keys() - survey.open_runs
    survey.open_folders |= {f"{REVIEW_PREFIX}run={run_id}/" for run_id in survey.planning}
    shards = [key for key in keys if (match := _PLAN_SHARD.fullmatch(key)) and match[1] in survey.open_runs]
    for key, table in in_order(pool, lambda key: read_table(store, key, read_plan), shards, ahead=_AHEAD):
        if table is None and not all(store.exists(plan_manifest_key(run_id)) for run_id in survey.open_runs):
            raise _Moved
        if not isinstance(table, pa.Table):
            problem = table or f"{key}: missing, although its plan is complete"
            folder = tmp_prefix(key.split("/")[1])
            survey.complain(f"{problem}; remove {folder} to give the run up", blind=True)
            continue
        for row in table.to_pylist():
            survey.open_folders.add(image_prefix(row["category"], row["sku"]))
            survey.planned.update(condition_key(digest) for _, digest in row["condition_sha256"])


def _read_parts(store: ObjectStore, survey: Survey, parts: list[str], pool: ThreadPoolExecutor) -> None:
    """Reads the parts of the finished runs, and those of `parts` that belong to open runs."""
    run_of = {
        part_key(run_id, shard): run_id
        for run_id, manifest in survey.manifests.items()
        for shard in range(manifest.shards)
    }
    for key in parts:
        match = _PART.fullmatch(key)
        if match and match[1] in survey.open_runs:
            run_of[key] = match[1]
        elif key not in run_of and not (match and match[1] in survey.planning):
            survey.stray_parts.append(key)
    seen: set[str] = set()
    last = ""
    for key, table in in_order(
        pool, lambda key: read_table(store, key, read_part), sorted(run_of), ahead=_AHEAD
    ):
        if run_of[key] != last:
            seen.clear()
            last = run_of[key]
        if not isinstance(table, pa.Table):
            run_id, problem = run_of[key], table or f"{key}: missing, although its run is finished"
            remedy = f"remove it, and run again with --run-id {run_id}"
            if run_id in survey.manifests:
                survey.unreadable.add(run_id)
                remedy = give_up(run_id)
            survey.complain(f"{problem}; {remedy}", blind=True)
        else:
            manifest = survey.manifests.get(last)
            if manifest:
                survey.attempts.setdefault(last, []).append(attempts_of(table, manifest.commit))
                survey.approved.setdefault(last, []).append(approved_of(table, manifest.commit))
            for row in table.to_pylist():
                row |= {"commit": manifest.commit if manifest else None, "decided_by": MACHINE}
                _take_row(survey, row, key, last, seen)


def _take_row(survey: Survey, row: dict[str, Any], key: str, run_id: str, seen: set[str]) -> None:
    """Checks one metadata row by itself, and notes the picture that it references."""
    image_id, uri, sha256 = row["image_id"], row["image_uri"], row["sha256"]
    if image_id in seen:
        survey.complain(f"{key}: the image {image_id} is there twice in this run")
    seen.add(image_id)
    if row["run_id"] != run_id:
        survey.complain(f"{key}: the image {image_id} says that it is of the run {row['run_id']}")
    place = place_of(row)
    if uri != place:
        survey.complain(f"{key}: the image {image_id} ({row['decision']}) names {uri}, its place is {place}")
    if uri is not None and image_id not in survey.retired:
        known = survey.named.setdefault(uri, (sha256, key))
        if known[0] != sha256:
            survey.complain(f"{uri}: has the sha256 {known[0]} in {known[1]} and {sha256} in {key}")
    for digest in dict(row["condition_sha256"]).values():
        try:
            survey.conditions.setdefault(condition_key(digest), (digest, key))
        except BadInput as error:
            survey.complain(f"{key}: the image {image_id}: {error}")
    if run_id in survey.manifests and image_id in survey.live:
        by_machine: list[dict[str, Any]] = [{}] if row["decision"] == APPROVED else []
        may_be_live = [digest_of(row | each) for each in (*by_machine, *survey.approvals.get(image_id, ()))]
        if survey.live[image_id] in may_be_live:
            del survey.live[image_id]
