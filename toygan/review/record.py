"""Records decisions of people: writes an object for each decision, then merges it into the summaries."""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.decisions import (
    APPROVE,
    KINDS,
    RETIRE,
    UNDO,
    Decision,
    decisions_table,
    is_decision_id,
    is_person,
    is_reason,
)
from catalog_schemas.images import OF_CANDIDATE
from catalog_schemas.runs import Manifest
from toygan.approval.measures import measure
from toygan.errors import AccessRefused, BadInput, Conflict, ObjectNotFound
from toygan.images import decode
from toygan.parallel import in_order
from toygan.planning.decisions import stored_decisions, verdicts
from toygan.planning.finished import read_manifests, read_part_at_hand
from toygan.planning.pruning import marked_approval
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.commit_log import reserve_all
from toygan.publishing.decided import merge_into_summaries
from toygan.storage.keys import decision_key
from toygan.storage.store import ObjectStore

_THREADS = 16
_MOST_NAMED = 5
_COLUMNS = (*OF_CANDIDATE, "decision")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person decides. Raises BadInput for anything that cannot be stored.

    `decision_id` makes repetitions harmless, because a decision with a stored id is not stored again.
    """

    decision: str
    image_id: str
    decided_by: str
    reason: str | None = None
    undoes: str | None = None
    decision_id: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        if self.decision not in KINDS:
            raise BadInput(f"the decision {self.decision!r} is not one of {', '.join(KINDS)}")
        if (self.undoes is not None) != (self.decision == UNDO):
            raise BadInput(
                "an undo must name the decision that it takes back; any other decision must not name one"
            )
        for named in (self.decision_id, self.undoes):
            if named is not None and not is_decision_id(named):
                raise BadInput(f"{named!r:.80} is not the id of a decision: 32 lower-case hex digits")
        if not is_person(self.decided_by):
            raise BadInput(
                f"{self.decided_by!r:.80} cannot be the name of a person: 1 to 64 printable characters, "
                "and not 'machine'"
            )
        if not is_reason(self.reason):
            raise BadInput("the reason must have 1 to 500 characters")


def find_pictures(store: ObjectStore, image_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Returns the metadata of pictures by id, with their run's commit number as `run_commit`.

    Raises BadInput, which names the ids without a picture of a finished run.
    """
    found = read_pictures(store, image_ids)
    if missing := [each for each in image_ids if each not in found]:
        more = f" and {len(missing) - _MOST_NAMED:,} more" if len(missing) > _MOST_NAMED else ""
        named = ", ".join(missing[:_MOST_NAMED]) + more
        raise BadInput(f"{named}: no finished run in {store.uri} stored a picture of this id")
    return found


def read_pictures(
    store: ObjectStore, image_ids: Iterable[str], columns: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Returns the same as find_pictures, with further `columns`. Leaves out unknown ids.

    A run or a part that cannot be read is logged; it does not hide the pictures of the others.
    """
    wanted = pa.array(sorted(set(image_ids)), pa.string())
    found: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(_THREADS, "find-pictures") as pool:
        parts = [(each, shard) for each in read_manifests(store, pool) for shard in range(each.shards)]

        def read(part: tuple[Manifest, int]) -> list[dict[str, Any]]:
            run, shard = part
            table = read_part_at_hand(store, run.run_id, shard, (*_COLUMNS, *columns))
            if table is None:
                return []
            rows = table.filter(
                pc.and_(pc.is_in(table["image_id"], value_set=wanted), pc.is_valid(table["sha256"]))
            )
            return [row | {"run_commit": run.commit} for row in rows.to_pylist()]

        # The parts are in the order of commits. So of two runs that made the same picture, the later one
        # counts.
        for _, rows in in_order(pool, read, parts, ahead=2 * _THREADS):
            found.update({row["image_id"]: row for row in rows})
    return found


def record(
    store: ObjectStore, wanted: Sequence[Wanted], pictures: Mapping[str, Mapping[str, Any]]
) -> list[Decision]:
    """Stores decisions in the order of `wanted`. Returns those that were not stored before.

    `pictures` holds the rows of `find_pictures`. On return, each decision is stored as an object and merged
    into the live table. Raises BadInput if the file of an approved picture is gone or is being removed.
    """
    stored = stored_decisions(store)
    known = set(stored["decision_id"].to_pylist())
    fresh = list({each.decision_id: each for each in wanted if each.decision_id not in known}.values())
    if not fresh:
        return []
    now = datetime.now(UTC)
    keys = [decision_key(f"{now:%Y-%m-%d}", each.decision_id) for each in fresh]
    marked = marked_approval(store) if _approve_retired(fresh, stored) else nullcontext(frozenset[str]())
    with marked as condemned, ThreadPoolExecutor(_THREADS, "decide") as pool:
        hashes = list(pool.map(lambda each: _phash(store, each, pictures[each.image_id], condemned), fresh))
        numbers = reserve_all(store, keys)
        decisions = [
            _decision(each, pictures[each.image_id], number, now, phash)
            for each, number, phash in zip(fresh, numbers, hashes, strict=True)
        ]
        decisions = list(pool.map(lambda item: _put(store, *item), zip(keys, decisions, strict=True)))
        tables = {key: decisions_table([each]) for key, each in zip(keys, decisions, strict=True)}
        merge_into_summaries(store, tables, pool)
    return decisions


def _approve_retired(wanted: Sequence[Wanted], stored: pa.Table) -> bool:
    """Whether one of the decisions approves a retired picture, whose file a prune may remove."""
    approved = pa.array([each.image_id for each in wanted if each.decision == APPROVE], pa.string())
    last = verdicts(stored.filter(pc.is_in(stored["image_id"], value_set=approved)))
    return RETIRE in last["decision"].to_pylist()


def _phash(
    store: ObjectStore, wanted: Wanted, picture: Mapping[str, Any], condemned: Collection[str]
) -> str | None:
    """Returns the perceptual hash of a picture. If it is missing, an approval measures it."""
    known: str | None = picture["phash"]
    if wanted.decision != APPROVE:
        return known
    if picture["image_uri"] in condemned:
        raise BadInput(
            f"{picture['image_id']}: `toygan verify --prune` is removing the file {picture['image_uri']}, "
            "so the picture cannot be approved"
        )
    try:
        if known is not None:
            store.size(picture["image_uri"])
            return known
        file = store.get(picture["image_uri"])
    except ObjectNotFound:
        raise BadInput(
            f"{picture['image_id']}: the file {picture['image_uri']} is missing, "
            "so the picture cannot be approved"
        ) from None
    except AccessRefused as error:  # concerns this picture alone, so it must not hold up other decisions
        raise BadInput(f"{picture['image_id']}: {error}, so the picture cannot be approved") from None
    return measure(decode(file)[None], [None])[0].phash


def _decision(
    wanted: Wanted, picture: Mapping[str, Any], number: int, now: datetime, phash: str | None
) -> Decision:
    return Decision(
        decision_id=wanted.decision_id,
        commit=number,
        decision=wanted.decision,
        undoes=wanted.undoes,
        decided_by=wanted.decided_by,
        decided_at=now.isoformat(),
        reason=wanted.reason,
        **{name: picture[name] for name in OF_CANDIDATE} | {"phash": phash},
        machine_decision=picture["decision"],
        run_commit=picture["run_commit"],
    )


def _put(store: ObjectStore, key: str, decision: Decision) -> Decision:
    """Stores a decision. Returns the stored decision, which may come from an earlier, interrupted try."""
    try:
        store.put_if(key, decision.to_json().encode(), None, content_type="application/json")
    except Conflict:
        return Decision.from_json(store.get(key), key)
    return decision


def decide(
    store: ObjectStore, decision: str, image_ids: Iterable[str], *, by: str, reason: str | None
) -> list[Decision]:
    """Records the same decision about each of several pictures.

    Raises BadInput for an unknown id, before it records any decision.
    """
    ids = list(dict.fromkeys(image_ids))
    wanted = [Wanted(decision=decision, image_id=each, decided_by=by, reason=reason) for each in ids]
    pictures = find_pictures(store, ids)
    complete_open_runs(store)
    return record(store, wanted, pictures)
