"""Merges people's decisions, and the pictures that runs retired, into the summaries.

A decision is valid as soon as its object exists. Until it is merged, its number is open in
`state/commits.json`. If the process dies before the merge, the next run or the next decision merges it.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import (
    UNDO,
    Decision,
    decisions_table,
    read_decisions,
    write_decisions,
)
from catalog_schemas.images import MACHINE, OF_CANDIDATE
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import TableError
from toygan.errors import ObjectNotFound
from toygan.parallel import in_order
from toygan.planning.decisions import merge_decisions, parse_decisions, returned_rows, stored_decisions
from toygan.planning.finished import read_manifests, read_part_at_hand
from toygan.publishing.commit_log import Commits, close_decisions
from toygan.publishing.live_table import approved_of, update_current
from toygan.storage.keys import DECIDED_KEY, DECISIONS_PREFIX, RETIRED_PREFIX
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import update

_AHEAD = 32  # the number of objects that are read at the same time

_log = logging.getLogger(__name__)


def parse_decided(data: bytes, key: str) -> pa.Table:
    """Reads the object of a decision or of a retirement as DECISIONS. Raises TableError if it is damaged."""
    if key.startswith(RETIRED_PREFIX):
        return read_decisions(data, key)
    return decisions_table([Decision.from_json(data, key)])


def is_decision(name: str) -> bool:
    """Whether an open number belongs to a decision or a retirement, not to a run.

    `name` is the id of the run, or the key of the decision or retirement.
    """
    return name.startswith((DECISIONS_PREFIX, RETIRED_PREFIX))


def decision_keys(store: ObjectStore) -> list[str]:
    """Lists the keys of all decisions and retirements. Files of other programs are left out."""
    found = [info.key for prefix in (DECISIONS_PREFIX, RETIRED_PREFIX) for info in store.list(prefix)]
    return [key for key in found if not key.rpartition("/")[2].startswith(".")]


def complete_decisions(store: ObjectStore, commits: Commits | None) -> None:
    """Merges the decisions of processes that died before they merged them.

    All decisions are read if `commits` is None or the table of decisions is missing. A store without
    conditional writes may have lost rows of the table, so there each decision that the table lacks is read.
    A damaged decision is logged and stays open.
    """
    waiting = [name for name in (commits or Commits()).open if is_decision(name)]
    is_missing = commits is None or not store.exists(DECIDED_KEY)
    if is_missing or not store.has_conditional_writes:
        known = set(stored_decisions(store)["decision_id"].to_pylist())
        waiting += [key for key in decision_keys(store) if is_missing or _id_in(key) not in known]
    if not waiting and not is_missing:
        return
    with ThreadPoolExecutor(_AHEAD, "decisions") as pool:
        merge_into_summaries(store, read_objects(store, sorted(set(waiting)), pool), pool)


def _id_in(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]


def read_objects(store: ObjectStore, keys: Sequence[str], pool: ThreadPoolExecutor) -> dict[str, pa.Table]:
    """Returns the decisions by key.

    A key without an object is left out, because its decision was never stored. A damaged decision is logged
    and left out, too.
    """

    def read(key: str) -> pa.Table | None:
        try:
            return parse_decided(store.get(key), key)
        except ObjectNotFound:
            return None
        except TableError as error:
            _log.warning("a decision is left out: %s; see `toygan verify`", error)
            return None

    found = in_order(pool, read, keys, ahead=_AHEAD)
    return {key: table for key, table in found if table is not None}


def merge_into_summaries(store: ObjectStore, objects: dict[str, pa.Table], pool: ThreadPoolExecutor) -> None:
    """Merges stored decisions into the table of decisions and the live table, then closes their numbers."""
    fresh = merge_decisions(objects.values())

    def merge(before: bytes | None) -> bytes:
        known = [] if before is None else [parse_decisions(before)]
        return write_decisions(merge_decisions([*known, fresh]))

    update(store, DECIDED_KEY, merge, content_type=PARQUET)
    if fresh.num_rows:
        update_current(store, _brought_back(store, fresh, pool))
        close_decisions(store, objects, last=pc.max(fresh["commit"]).as_py())


def _brought_back(store: ObjectStore, fresh: pa.Table, pool: ThreadPoolExecutor) -> list[pa.Table]:
    """Returns pictures that runs approved, of products for which a decision was undone.

    The live table no longer has these pictures. If a person undid a decision, they are looked up in the
    metadata of the runs. A part that cannot be read is left out. If a run undid a retirement, only the
    retired picture comes back, and the undo describes it.
    """
    returned = [returned_rows(fresh)]
    is_by_person = pc.not_equal(fresh["decided_by"], MACHINE)
    back = fresh.filter(pc.and_(pc.equal(fresh["decision"], UNDO), is_by_person))
    if not back.num_rows:
        return returned
    skus = back["sku"].combine_chunks()
    parts = [(each, shard) for each in read_manifests(store, pool) for shard in range(each.shards)]

    def read(part: tuple[Manifest, int]) -> pa.Table | None:
        run, shard = part
        table = read_part_at_hand(store, run.run_id, shard, (*OF_CANDIDATE, "decision"))
        if table is None:
            return None
        return approved_of(table.filter(pc.is_in(table["sku"], value_set=skus)), run.commit)

    return returned + [rows for _, rows in in_order(pool, read, parts, ahead=_AHEAD) if rows is not None]
