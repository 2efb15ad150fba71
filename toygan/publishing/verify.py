"""Checks whether a store is whole, and removes the objects that no run needs any more.

A store is whole if all of this holds:

- Every part that a finished run counts exists.
- The picture of every metadata row exists and has the stated sha256. So does every sketch and layout.
- No run names a picture twice.
- `current.parquet` names only pictures that a finished run approved.
- The summaries below state/ and `current.parquet` agree with all finished runs together.
- Every object under images/, review/ and conditions/ is named by a finished run.

A run that was started and not finished has a frozen plan under .tmp/<run_id>/ and no manifest. It is no
problem: it can be continued under its run id, so its objects are neither missing nor left over. To give up
such a run, remove .tmp/<run_id>/; from then on its pictures and parts are left over.

A run that is still being planned is no problem, either. It has a mark under .tmp/<run_id>/ and no plan. It
may come to need any picture, so no picture counts as left over until its plan is frozen. A process that dies
while it plans leaves its mark behind. The store does not distinguish the two, so verify names every such
run, and since when it is being planned.
"""

import hashlib
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC

from toygan.errors import BadInput, ObjectNotFound, Retryable
from toygan.parallel import in_order
from toygan.planning.attempts import merge_attempts
from toygan.planning.pruning import read_mark, read_pruning, write_pruning
from toygan.publishing.commit import merge_current
from toygan.publishing.commit_log import Commits
from toygan.publishing.survey import Survey, look_around
from toygan.storage.keys import ATTEMPTS_KEY, COMMITS_KEY, CURRENT_KEY, METADATA_PREFIX, PRUNING_KEY
from toygan.storage.store import TMP_PREFIX, ObjectStore

_THREADS = 16
_AHEAD = 4 * _THREADS  # concurrent requests; this bounds the memory for stores of any size
_ANEW = "remove it, the next run makes it anew"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of verify; the store is whole if there are no problems."""

    problems: tuple[str, ...]  # a line each, left-over objects included
    left_over: tuple[str, ...]  # keys that prune would remove
    open_runs: tuple[str, ...]  # ids of runs that were started and can be finished
    planning: tuple[str, ...]  # a line for a person on each run that is being planned, or died while it was
    finished_runs: int
    pictures: int  # how many were read and compared
    conditions: int  # how many sketches and layouts were read and compared


def verify(store: ObjectStore, *, advance: Callable[[int], object] = lambda count: None) -> Verdict:
    """Reads the whole store and compares; `advance(1)` is called after each picture, from the calling thread.

    Raises StoreConfigError for an empty store, because a mistyped URI must not pass as a whole store.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        survey = look_around(store, pool)
        problems = list(survey.problems) or _compare_summaries(survey)
        named = {**survey.conditions, **survey.named}
        compared = in_order(pool, lambda uri: _compare(store, uri, *named[uri]), sorted(named), ahead=_AHEAD)
        for uri, problem in compared:
            if uri in survey.named:
                advance(1)
            problems += [problem] if problem else []
    left_over = survey.left_over()
    problems += [f"{key}: left over, no finished run names it; --prune removes it" for key in left_over]
    if survey.blind:
        problems.append("left-over objects were not looked for: the problems above hide what runs still need")
    return Verdict(
        problems=tuple(problems),
        left_over=tuple(left_over),
        open_runs=tuple(sorted(survey.open_runs)),
        planning=tuple(_describe_planning(store, run_id) for run_id in sorted(survey.planning)),
        finished_runs=len(survey.manifests),
        pictures=len(survey.named),
        conditions=len(survey.conditions),
    )


def _describe_planning(store: ObjectStore, run_id: str) -> str:
    since = read_mark(store, run_id)
    when = f" since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if since else ""
    return (
        f"{TMP_PREFIX}{run_id}/: the run is being planned{when}; until it is, --prune removes no picture. "
        f"If its process died, run it again with --run-id {run_id}, or remove this folder"
    )


def prune(store: ObjectStore) -> list[str]:
    """Removes left-over objects and the unfinished files of finished runs; returns the removed keys.

    It may run beside anything but another prune: see `toygan.planning.pruning`. Nothing is removed while a
    manifest, a part or a plan cannot be read, because the objects that it names are unknown. Parts are
    removed before pictures, so an interrupted prune leaves no row without its picture. Raises Retryable if
    another prune takes over.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        survey = look_around(store, pool)
        if survey.blind:
            return []
        before, unfinished = read_pruning(store)
        removed: list[str] = []
        if (left_over := survey.left_over()) or before:
            prune_id = secrets.token_hex(8)
            write_pruning(store, prune_id, {*left_over, *unfinished})
            still = set(look_around(store, pool).left_over())
            keys = [key for key in left_over if key in still]
            parts = [key for key in keys if key.startswith(METADATA_PREFIX)]
            pictures = [key for key in keys if not key.startswith(METADATA_PREFIX)]
            for some in (*_batches(parts), *_batches(pictures)):
                _check_still_mine(store, prune_id)
                deque(in_order(pool, store.delete, some, ahead=_AHEAD), maxlen=0)
                removed += some
            _check_still_mine(store, prune_id)
            store.delete(PRUNING_KEY)
        deque(in_order(pool, store.delete, survey.swept, ahead=_AHEAD), maxlen=0)
    return [*removed, *survey.swept]


def _batches(keys: list[str]) -> list[list[str]]:
    return [keys[start : start + _AHEAD] for start in range(0, len(keys), _AHEAD)]


def _check_still_mine(store: ObjectStore, prune_id: str) -> None:
    if read_pruning(store)[0] != prune_id:
        raise Retryable(f"{store.uri}: another `toygan verify --prune` has taken over; run one at a time")


def _compare_summaries(survey: Survey) -> list[str]:
    """Returns a line for each difference between the summaries and the finished runs.

    The summaries may or may not contain runs that end in the meantime.
    """
    commits = survey.commits
    if commits is None:
        return [f"{COMMITS_KEY}: missing; the next run makes it anew"] if survey.manifests else []
    settled = [
        manifest
        for manifest in survey.manifests.values()
        if manifest.commit <= commits.last and manifest.run_id not in commits.open
    ]
    wanted = Commits()
    for manifest in settled:
        wanted = wanted.with_run(manifest)
    problems = []
    if wanted.acceptance != commits.acceptance:
        problems.append(f"{COMMITS_KEY}: the shares of approved pictures differ from the manifests; {_ANEW}")
    ids = {manifest.run_id for manifest in settled}
    for key, stored, merge, of_runs in (
        (ATTEMPTS_KEY, survey.stored_attempts, merge_attempts, survey.attempts),
        (CURRENT_KEY, survey.current, merge_current, survey.approved),
    ):
        stored = merge([stored])
        must = [table for run_id, tables in of_runs.items() if run_id in ids for table in tables]
        may = [table for tables in of_runs.values() for table in tables]
        if not merge([stored, *must]).equals(stored):
            problems.append(f"{key}: some results of finished runs are missing; {_ANEW}")
        elif key == ATTEMPTS_KEY and not (merged := merge(may)).equals(merge([stored, merged])):
            problems.append(f"{key}: holds results that no finished run has; {_ANEW}")
    return problems


def _compare(store: ObjectStore, uri: str, sha256: str, part: str) -> str | None:
    """Returns what is wrong with the object of a picture; None if it is right."""
    try:
        found = hashlib.sha256(store.get(uri)).hexdigest()
    except ObjectNotFound:
        return f"{uri}: missing, although {part} names it"
    except BadInput as error:
        return f"{part}: {error}"
    return None if found == sha256 else f"{uri}: has the sha256 {found}, but {sha256} in {part}"
