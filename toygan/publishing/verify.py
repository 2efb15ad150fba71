"""Checks whether a store is whole, and removes the objects that no run needs any more.

A store is whole if all of this holds:

- Every part that a finished run counts exists.
- The picture of every metadata row exists and has the stated sha256, unless it was retired at least 30 days
  ago. Every condition file of a row exists and has the stated sha256.
- No run names a picture twice.
- `current.parquet` names only pictures that a finished run or a person approved.
- The summaries below state/ and `current.parquet` agree with all finished runs together.
- Every object under images/, review/ and conditions/ is named by a finished run.
- Every decision of a person can be read. `state/decisions.parquet` agrees with all decisions together.

A run that was started and not finished has a frozen plan under .tmp/<run_id>/ and no manifest. It is not a
problem, because it can be continued under its run id. So its objects count neither as missing nor as left
over. To give up such a run, remove .tmp/<run_id>/; from then on its pictures and parts are left over.

A run that is still being planned is not a problem, either. It has a mark under .tmp/<run_id>/ and no plan. It
may need any picture, so no picture counts as left over until the plan is frozen. If the process dies while it
plans, the mark stays. The store cannot tell whether the process lives, so verify names every run with a mark
and no plan, and when its planning began.
"""

import hashlib
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from toygan.errors import BadInput, ObjectNotFound, Retryable
from toygan.parallel import in_order
from toygan.planning.attempts import merge_attempts
from toygan.planning.decisions import merge_decisions
from toygan.planning.pruning import describe_mark, read_pruning, write_pruning
from toygan.publishing.commit_log import Commits
from toygan.publishing.live_table import merge_current
from toygan.publishing.survey import Survey, look_around
from toygan.storage.keys import (
    ATTEMPTS_KEY,
    COMMITS_KEY,
    CURRENT_KEY,
    DECIDED_KEY,
    METADATA_PREFIX,
    PRUNING_KEY,
)
from toygan.storage.store import ObjectStore

_THREADS = 16
_AHEAD = 4 * _THREADS  # concurrent requests; limits the memory
_ANEW = "remove it; the next run makes it again"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of verify; the store is whole if there are no problems."""

    problems: tuple[str, ...]  # one line for each problem, including left-over objects
    left_over: tuple[str, ...]  # the keys that prune would remove
    open_runs: tuple[str, ...]  # ids of runs that were started and can be finished
    planning: tuple[str, ...]  # one line for each planning or approval that has begun and not ended
    finished_runs: int
    pictures: int  # the number of pictures that were read and compared
    conditions: int  # the number of condition files that were read and compared


def verify(store: ObjectStore, *, advance: Callable[[int], object] = lambda count: None) -> Verdict:
    """Reads and compares the whole store. Calls `advance(1)` in the caller's thread after each picture.

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
    problems += [
        f"{key}: left over, because no finished run names it; --prune removes it" for key in left_over
    ]
    if survey.blind:
        problems.append(
            "left-over objects were not looked for, because the problems above hide which objects runs need"
        )
    return Verdict(
        problems=tuple(problems),
        left_over=tuple(left_over),
        open_runs=tuple(sorted(survey.open_runs)),
        planning=tuple(describe_mark(store, name) for name in sorted(survey.planning)),
        finished_runs=len(survey.manifests),
        pictures=len(survey.named),
        conditions=len(survey.conditions),
    )


def prune(store: ObjectStore) -> list[str]:
    """Removes left-over objects and the unfinished files of finished runs; returns the removed keys.

    A prune may run at the same time as any other command except another prune, see `toygan.planning.pruning`.
    If a manifest, a part or a plan cannot be read, nothing is removed, because the objects that it names are
    unknown. Parts are removed before pictures, so an interrupted prune leaves no row without its picture.
    Raises Retryable if another prune has begun.
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

    A run that ends in the meantime may be missing in the summaries; this is not a difference.
    """
    commits = survey.commits
    if commits is None:
        return [f"{COMMITS_KEY}: missing; the next run makes it again"] if survey.manifests else []
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
    must, may = _of_runs(survey.attempts, ids)
    stored = merge_attempts([survey.stored_attempts])
    if not merge_attempts([stored, *must]).equals(stored):
        problems.append(f"{ATTEMPTS_KEY}: some results of finished runs are missing; {_ANEW}")
    elif not (merged := merge_attempts(may)).equals(merge_attempts([stored, merged])):
        problems.append(f"{ATTEMPTS_KEY}: holds results that no finished run has; {_ANEW}")
    return [*problems, *_compare_decided(survey, commits, _of_runs(survey.approved, ids)[0])]


def _of_runs(tables: dict[str, list[pa.Table]], ids: set[str]) -> tuple[list[pa.Table], list[pa.Table]]:
    """Returns the tables of the runs `ids`, and the tables of all runs."""
    some = [table for run_id, of_run in tables.items() if run_id in ids for table in of_run]
    return some, [table for of_run in tables.values() for table in of_run]


def _compare_decided(survey: Survey, commits: Commits, approved: list[pa.Table]) -> list[str]:
    """Compares the tables of decisions and live pictures with the decisions and the finished runs.

    Slots about which somebody decides in the meantime are left out.
    """
    is_open = pa.array(
        [
            number > commits.last or survey.decision_keys[decision_id] in commits.open
            for number, decision_id in zip(
                survey.decisions["commit"].to_pylist(),
                survey.decisions["decision_id"].to_pylist(),
                strict=True,
            )
        ],
        pa.bool_(),
    )
    settled, unsettled = survey.decisions.filter(pc.invert(is_open)), survey.decisions.filter(is_open)
    stored = survey.stored_decisions
    problems = []
    if not merge_decisions([stored, settled]).equals(merge_decisions([stored])):
        problems.append(f"{DECIDED_KEY}: some decisions of people are missing; {_ANEW}")
    elif merge_decisions([survey.decisions, stored]).num_rows != survey.decisions.num_rows:
        problems.append(f"{DECIDED_KEY}: holds decisions that are not among decisions/; {_ANEW}")
    moving = unsettled["sku"].combine_chunks()
    live = survey.current.filter(pc.invert(pc.is_in(survey.current["sku"], value_set=moving)))
    wanted = merge_current([live, *approved], settled)
    wanted = wanted.filter(pc.invert(pc.is_in(wanted["sku"], value_set=moving)))
    if not wanted.equals(live):
        problems.append(f"{CURRENT_KEY}: some results of finished runs or decisions are missing; {_ANEW}")
    return problems


def _compare(store: ObjectStore, uri: str, sha256: str, part: str) -> str | None:
    """Returns what is wrong with the object of a picture; None if it is right."""
    try:
        found = hashlib.sha256(store.get(uri)).hexdigest()
    except ObjectNotFound:
        return f"{uri}: missing, although {part} names it"
    except BadInput as error:
        return f"{part}: {error}"
    return None if found == sha256 else f"{uri}: has the sha256 {found}, but {part} states {sha256}"
