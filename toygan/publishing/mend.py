"""Makes summaries again that are damaged, from all runs and decisions."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import write_decisions
from catalog_schemas.images import read_current, write_attempts, write_current
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import TableError
from toygan.errors import BadInput, Conflict, StoreUnavailable
from toygan.planning.attempts import attempts_of, merge_attempts, parse_attempts
from toygan.planning.decisions import merge_decisions, parse_decisions
from toygan.planning.finished import read_manifests, read_part_at_hand, run_ids
from toygan.planning.summaries import Summaries
from toygan.publishing.commit_log import Commits
from toygan.publishing.decided import decision_keys, read_objects
from toygan.publishing.live_table import approved_of, merge_current
from toygan.storage.keys import ATTEMPTS_KEY, COMMITS_KEY, CURRENT_KEY, DECIDED_KEY
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import read_stored

_THREADS = 16

log = logging.getLogger(__name__)


def mend_summaries(store: ObjectStore, found: Summaries) -> bool:
    """Makes damaged summaries again. Returns whether any was damaged.

    Raises the error of a damaged summary if a file of a run or a decision is damaged, too, because the new
    summary would lack what this file holds. Raises StoreUnavailable if another process changes a summary
    meanwhile.
    """
    problems = _problems(found)
    if not problems:
        return False
    # Without the numbers of open runs and decisions, nobody knows which of them the tables hold.
    keys = (DECIDED_KEY, ATTEMPTS_KEY, CURRENT_KEY, COMMITS_KEY) if COMMITS_KEY in problems else (*problems,)
    versions = {key: read_stored(store, key).version for key in keys}
    contents = _contents(store)
    if contents is None:
        raise next(iter(problems.values()))
    for key in keys:
        log.warning("%s is made again from all runs and decisions, because it was damaged", key)
        kind = "application/json" if key == COMMITS_KEY else PARQUET
        try:
            store.put_if(key, contents[key], versions[key], content_type=kind)
        except Conflict:
            raise StoreUnavailable(f"{store.uri}: another process has changed {key}; run again") from None
    return True


def _problems(found: Summaries) -> dict[str, BadInput | TableError]:
    """Returns the error of each summary that cannot be read, by key."""
    files: Mapping[str, tuple[bytes | None, Callable[[bytes], object]]] = {
        COMMITS_KEY: (found.commits.content, Commits.from_json),
        CURRENT_KEY: (found.live, read_current),
        ATTEMPTS_KEY: (found.attempts, parse_attempts),
        DECIDED_KEY: (found.decisions, parse_decisions),
    }
    problems: dict[str, BadInput | TableError] = {}
    for key, (content, read) in files.items():
        try:
            if content is not None:
                read(content)
        except (BadInput, TableError) as error:
            problems[key] = error
    return problems


def _contents(store: ObjectStore) -> dict[str, bytes] | None:
    """Returns all summaries as they follow from the runs and decisions; None if one of these is damaged."""
    with ThreadPoolExecutor(_THREADS, "mend") as pool:
        manifests, keys = read_manifests(store, pool), decision_keys(store)
        decided = read_objects(store, keys, pool)
        if len(manifests) < len(run_ids(store)) or len(decided) < len(keys):
            return None
        attempts, live = [], []
        for manifest in manifests:  # one run at a time, to limit the memory
            for of_part in pool.map(partial(_of_part, store, manifest), range(manifest.shards)):
                if of_part is None:
                    return None
                attempts.append(of_part[0])
                live.append(of_part[1])
    decisions = merge_decisions(decided.values())
    commits = Commits(last=pc.max(decisions["commit"]).as_py() or 0)
    for manifest in manifests:
        commits = commits.with_run(manifest)
    return {
        DECIDED_KEY: write_decisions(decisions),
        ATTEMPTS_KEY: write_attempts(merge_attempts(attempts)),
        CURRENT_KEY: write_current(merge_current(live, decisions)),
        COMMITS_KEY: commits.to_json(),
    }


def _of_part(store: ObjectStore, manifest: Manifest, shard: int) -> tuple[pa.Table, pa.Table] | None:
    part = read_part_at_hand(store, manifest.run_id, shard)
    if part is None:
        return None
    return attempts_of(part, manifest.commit), approved_of(part, manifest.commit)
