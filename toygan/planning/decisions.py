"""Derives from people's decisions which pictures may be live, and which pictures the next plan has to make
again.

`state/decisions.parquet` holds all decisions, in the order of their numbers. The functions here look at the
whole table, so the result does not depend on the order in which decisions and runs are merged.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog_schemas.decisions import (
    APPROVE,
    DECISIONS,
    REDRAW,
    REJECT,
    RETIRE,
    UNDO,
    read_decisions,
)
from catalog_schemas.images import APPROVED, CURRENT, MACHINE, OF_CANDIDATE
from catalog_schemas.validation import TableError, hash_strings
from toygan.errors import BadInput, ObjectNotFound
from toygan.planning.live import Hashes, equal_hashes, joined, slot_hashes
from toygan.storage.keys import DECIDED_KEY
from toygan.storage.store import ObjectStore

_VERDICTS = pa.array([APPROVE, REJECT, RETIRE])
_ORDER = [("commit", "ascending"), ("decision_id", "ascending")]
_ROW_FACTOR = np.uint64(0xD6E8FEB86659FD93)


def stored_decisions(store: ObjectStore) -> pa.Table:
    """Returns the table of all decisions, empty if there are none; raises BadInput if it is damaged."""
    try:
        return parse_decisions(store.get(DECIDED_KEY))
    except ObjectNotFound:
        return DECISIONS.empty_table()


def parse_decisions(data: bytes) -> pa.Table:
    """Parses the output of write_decisions; raises BadInput for anything else."""
    try:
        return read_decisions(data, DECIDED_KEY)
    except TableError as error:
        raise BadInput(f"{error}; remove it; the next run makes it again from decisions/") from error


def merge_decisions(tables: Iterable[pa.Table]) -> pa.Table:
    """Merges tables of DECISIONS to one row for each decision, sorted by their numbers."""
    rows = pa.concat_tables([DECISIONS.empty_table(), *tables]).sort_by(_ORDER).combine_chunks()
    if rows.num_rows < 2:
        return rows
    ids = rows["decision_id"].combine_chunks()
    is_first = np.ones(rows.num_rows, dtype=bool)
    # All rows of one decision are equal, so the sorting makes them neighbours.
    is_first[1:] = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
    return rows.filter(pa.array(is_first))


def without_undone(decisions: pa.Table) -> pa.Table:
    """Returns the decisions that nobody has undone. The undos themselves are left out."""
    is_undo = pc.equal(decisions["decision"], UNDO)
    undone = decisions.filter(is_undo)["undoes"].combine_chunks()
    keep = pc.and_(pc.invert(is_undo), pc.invert(pc.is_in(decisions["decision_id"], value_set=undone)))
    return decisions.filter(keep)


def verdicts(decisions: pa.Table) -> pa.Table:
    """Returns the last approval, rejection or retirement of each picture, with all columns of DECISIONS."""
    left = without_undone(decisions)
    left = left.filter(pc.is_in(left["decision"], value_set=_VERDICTS)).sort_by(_ORDER)
    last = left.append_column("position", pa.array(np.arange(left.num_rows)))
    last = last.group_by("image_id").aggregate([("position", "max")])
    return left.take(last["position_max"].combine_chunks().sort())


RETIRED = "retired"  # the description of a retired picture begins with this word
_IN_WORDS = {
    APPROVE: "approved",
    REJECT: "rejected",
    REDRAW: "another picture wanted",
    RETIRE: RETIRED,
}


def in_words(decisions: pa.Table) -> dict[str, str]:
    """Describes the last decision about each picture, by image id: `rejected by Ann: too dark`.

    Decisions that somebody has undone do not count.
    """
    left = without_undone(decisions).sort_by(_ORDER).select(["image_id", "decision", "decided_by", "reason"])
    return {
        row["image_id"]: f"{_IN_WORDS[row['decision']]} by {row['decided_by']}"
        + (f": {row['reason']}" if row["reason"] else "")
        for row in left.to_pylist()
    }


def live_rows(decisions: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Returns two tables of CURRENT: the pictures that people made live, and those that may not be live.

    A row of the second table has the commit number with which the picture became live. When a picture is
    withdrawn, the picture before it does not become live again, because it is of an older row or model.
    """
    last = verdicts(decisions)
    is_approval = pc.equal(last["decision"], APPROVE)
    withdrawn = last.filter(pc.invert(is_approval))
    approvals = without_undone(decisions)
    approvals = approvals.filter(pc.equal(approvals["decision"], APPROVE))
    gone = pa.concat_tables(
        [
            _made_live_by_runs(withdrawn),
            approvals.filter(pc.is_in(approvals["image_id"], value_set=withdrawn["image_id"])).select(_LIVE),
        ]
    )
    return _as_current(last.filter(is_approval).select(_LIVE)), _as_current(gone)


_LIVE = [*OF_CANDIDATE, "commit", "decided_by"]


def returned_rows(decisions: pa.Table) -> pa.Table:
    """Returns, as CURRENT, the pictures that runs approved and whose retirement a later run has undone."""
    undos = decisions.filter(pc.equal(decisions["decision"], UNDO))
    return _as_current(_made_live_by_runs(undos.filter(pc.equal(undos["decided_by"], MACHINE))))


def _made_live_by_runs(decisions: pa.Table) -> pa.Table:
    """Returns the columns _LIVE of the pictures that runs approved, with the commits of these runs."""
    approved = decisions.filter(pc.equal(decisions["machine_decision"], APPROVED))
    return approved.drop_columns(["commit"]).rename_columns({"run_commit": "commit"}).select(_LIVE)


def _as_current(rows: pa.Table) -> pa.Table:
    """Returns rows as a table of CURRENT. A missing perceptual hash becomes an empty text."""
    position = rows.schema.get_field_index("phash")
    return rows.set_column(position, "phash", pc.fill_null(rows["phash"], "")).cast(CURRENT)


def withdrawn_ids(decisions: pa.Table) -> pa.Array:
    """Returns the ids of the pictures whose last verdict is a rejection or a retirement."""
    last = verdicts(decisions)
    return last.filter(pc.not_equal(last["decision"], APPROVE))["image_id"].combine_chunks()


def rejected_phashes(decisions: pa.Table) -> dict[str, list[str]]:
    """Returns the perceptual hashes, 16 hex digits each, of the pictures that people rejected, by sku.

    Leaves out pictures that could not be measured.
    """
    last = verdicts(decisions)
    is_measured = pc.and_(pc.equal(last["decision"], REJECT), pc.is_valid(last["phash"]))
    found: dict[str, list[str]] = {}
    for row in last.filter(is_measured).select(["sku", "phash"]).to_pylist():
        found.setdefault(row["sku"], []).append(row["phash"])
    return found


class Wishes:
    """The slots for which another picture is wanted, searchable by slot and row fingerprint.

    `decisions` is the table of all decisions. A retirement counts as a rejection. If a product is in the
    catalog again and its picture could not come back, another one is wanted.
    """

    def __init__(self, decisions: pa.Table) -> None:
        asked = without_undone(decisions)
        self._redraws = _sorted_by_hash(asked.filter(pc.equal(asked["decision"], REDRAW)))
        is_withdrawal = pc.is_in(asked["decision"], value_set=pa.array([REJECT, RETIRE]))
        self._rejections = _sorted_by_hash(asked.filter(is_withdrawal))

    def of(
        self, skus: Hashes, image_index: NDArray[np.int32], fingerprints: Hashes
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns, for each of S slots, the numbers of the last redraw and of the last rejection; 0 if there
        is none.
        """
        wanted = _hashes(slot_hashes(skus, image_index), fingerprints)
        found = []
        for hashes, commits in (self._redraws, self._rejections):
            last = np.zeros(len(wanted), np.int64)
            if len(hashes):
                mine, theirs = equal_hashes(hashes, wanted)
                np.maximum.at(last, mine, commits[theirs])
            found.append(last)
        return found[0], found[1]


def _sorted_by_hash(asked: pa.Table) -> tuple[Hashes, NDArray[np.int64]]:
    slots = slot_hashes(hash_strings(joined(asked["sku"])), asked["image_index"].to_numpy())
    hashes = _hashes(slots, hash_strings(joined(asked["row_fingerprint"])))
    order = np.argsort(hashes, kind="stable")
    return hashes[order], asked["commit"].to_numpy()[order]


def _hashes(slots: Hashes, fingerprints: Hashes) -> Hashes:
    return slots + fingerprints * _ROW_FACTOR
