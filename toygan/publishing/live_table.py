"""Makes the live table: pictures that runs or people approved, without those that people rejected.

For each slot, the picture with the highest commit number is live. A merge looks at all decisions, so runs and
decisions may be merged in any order and repeatedly.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import DECISIONS
from catalog_schemas.images import (
    APPROVED,
    CURRENT,
    MACHINE,
    OF_CANDIDATE,
    SLOT,
    read_current,
    write_current,
)
from toygan.planning.decisions import live_rows, parse_decisions, withdrawn_ids
from toygan.planning.summaries import read_if_there
from toygan.storage.keys import CURRENT_KEY, DECIDED_KEY
from toygan.storage.store import PARQUET, ObjectStore
from toygan.storage.update import update


def update_current(store: ObjectStore, fresh: Sequence[pa.Table]) -> tuple[bytes | None, bytes | None]:
    """Merges the new rows `fresh` and all stored decisions into the live table.

    `fresh` are tables with the columns of CURRENT. Returns the live table and the table of decisions, in
    their stored form.
    """
    decisions: bytes | None = None

    def merge(before: bytes | None) -> bytes:
        nonlocal decisions
        live = CURRENT.empty_table() if before is None else read_current(before)
        # Decisions are read after the live table. A decision that is stored later is merged by its own
        # process.
        decisions = read_if_there(store, DECIDED_KEY)
        decided = DECISIONS.empty_table() if decisions is None else parse_decisions(decisions)
        return write_current(merge_current([live, *fresh], decided))

    return update(store, CURRENT_KEY, merge, content_type=PARQUET).content, decisions


def approved_of(part: pa.Table, commit: int) -> pa.Table:
    """Returns the approved rows of IMAGES in the columns of CURRENT, with the commit of their run."""
    rows = part.filter(pc.equal(part["decision"], APPROVED)).select(OF_CANDIDATE)
    rows = rows.append_column("commit", pa.repeat(pa.scalar(commit, pa.int64()), rows.num_rows))
    return rows.append_column("decided_by", pa.repeat(pa.scalar(MACHINE), rows.num_rows))


def merge_current(tables: Iterable[pa.Table], decisions: pa.Table) -> pa.Table:
    """Keeps the picture of the highest commit for each sku and image index.

    `decisions` is the table of all decisions. A store without conditional writes may have given two runs the
    same commit number. Then the picture of the last run id is kept.
    """
    rows = pa.concat_tables([CURRENT.empty_table(), *tables], promote_options="permissive")
    approved, gone = live_rows(decisions)
    # People's approvals are taken only from the decisions, because a table may have an approval that was
    # undone.
    by_machine = rows.filter(pc.equal(rows["decided_by"], MACHINE)).cast(CURRENT)
    rows = pa.concat_tables([by_machine, approved, gone])
    order = [
        *((name, "ascending") for name in SLOT),
        *((name, "descending") for name in ("commit", "run_id", "image_id", "decided_by")),
    ]
    rows = rows.sort_by(order).combine_chunks()
    is_first = np.ones(rows.num_rows, dtype=bool)
    if rows.num_rows > 1:
        same = [pc.equal(rows[name].slice(1), rows[name].slice(0, rows.num_rows - 1)) for name in SLOT]
        is_first[1:] = pc.invert(pc.and_(*same)).to_numpy()
    first = rows.filter(pa.array(is_first))
    is_gone = pc.is_in(first["image_id"], value_set=withdrawn_ids(decisions))
    return first.filter(pc.invert(is_gone)).cast(CURRENT)
