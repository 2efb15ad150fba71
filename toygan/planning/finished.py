"""Reads the results of finished runs from a store."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import pyarrow as pa

from catalog_schemas.images import IMAGES
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import TableError, read_parquet_bytes
from toygan.errors import ObjectNotFound
from toygan.storage.keys import NAME, RUNS_PREFIX, manifest_key, part_key
from toygan.storage.store import ObjectStore

_MOST_KEPT = 32  # the number of tables that stay in memory

_log = logging.getLogger(__name__)


def read_manifest(store: ObjectStore, run_id: str) -> Manifest | None:
    """Returns the manifest; None for a run that did not finish.

    Raises TableError if it is damaged, or the manifest of another run.
    """
    key = manifest_key(run_id)
    try:
        manifest = Manifest.from_json(store.get(key), key)
    except ObjectNotFound:
        return None
    if manifest.run_id != run_id:
        raise TableError(f"{key}: this is the manifest of another run, {manifest.run_id}")
    return manifest


def read_part(store: ObjectStore, run_id: str, shard: int) -> pa.Table:
    """Returns the metadata rows of one shard; raises ObjectNotFound, or TableError for a damaged part."""
    key = part_key(run_id, shard)
    return read_parquet_bytes(store.get(key), IMAGES, key)


def read_part_at_hand(
    store: ObjectStore, run_id: str, shard: int, columns: Sequence[str] | None = None
) -> pa.Table | None:
    """Returns the metadata rows of one shard, or only some columns. Logs a missing or damaged part, and
    returns None for it, so that it does not stop the others.
    """
    key = part_key(run_id, shard)
    try:
        return read_parquet_bytes(store.get(key), IMAGES, key, columns)
    except (ObjectNotFound, TableError) as error:
        _log.warning("a part of the run %s is left out: %s; see `toygan verify`", run_id, error)
        return None


class Parts:
    """The metadata of a run, one table per shard, in order. The first _MOST_KEPT are read only once."""

    def __init__(self, store: ObjectStore, run_id: str, shards: int) -> None:
        self._store = store
        self._run_id = run_id
        self._shards = shards
        self._kept: dict[int, pa.Table] = {}

    def __iter__(self) -> Iterator[pa.Table]:
        """Yields the tables. Raises the same errors as read_part."""
        for shard in range(self._shards):
            if (part := self._kept.get(shard)) is None:
                part = read_part(self._store, self._run_id, shard)
                if shard < _MOST_KEPT:
                    self._kept[shard] = part
            yield part


def run_ids(store: ObjectStore) -> list[str]:
    """Lists the finished runs. Files of other programs are left out, such as the `._a.json` of macOS."""
    names = [info.key.removeprefix(RUNS_PREFIX) for info in store.list(RUNS_PREFIX)]
    found = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return [run_id for run_id in found if NAME.fullmatch(run_id)]


def read_manifests(store: ObjectStore, pool: Executor) -> list[Manifest]:
    """Returns the manifests of all finished runs, in the order of their commits.

    Logs a damaged manifest, and leaves it out, so that it does not stop the others.
    """

    def read(run_id: str) -> Manifest | None:
        try:
            return read_manifest(store, run_id)
        except TableError as error:
            _log.warning("the run %s is left out: %s; see `toygan verify`", run_id, error)
            return None

    found = [each for each in pool.map(read, run_ids(store)) if each is not None]
    return sorted(found, key=lambda each: (each.commit, each.run_id))
