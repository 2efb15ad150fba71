"""The summaries of a store: with them a run need not read all earlier runs, see README.md in this folder."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from catalog_schemas.decisions import DECISIONS
from catalog_schemas.images import ATTEMPTS, CURRENT
from catalog_schemas.validation import read_parquet_bytes
from toygan.errors import ObjectNotFound
from toygan.planning.attempts import parse_attempts
from toygan.planning.decisions import parse_decisions
from toygan.storage.keys import ATTEMPTS_KEY, COMMITS_KEY, CURRENT_KEY, DECIDED_KEY
from toygan.storage.store import ObjectStore
from toygan.storage.update import Stored, read_stored


@dataclass(frozen=True, kw_only=True)
class Summaries:
    """The files as they were when they were read or written, in their stored form. None if there is no file.

    The tables are made when they are needed, which saves memory between the steps of a run.
    """

    commits: Stored
    live: bytes | None
    attempts: bytes | None
    decisions: bytes | None

    @property
    def are_complete(self) -> bool:
        """Whether no file is missing."""
        return None not in (self.commits.content, self.live, self.attempts, self.decisions)

    def live_table(self, columns: Sequence[str]) -> pa.Table:
        """Returns these columns of CURRENT, empty if there is no table. Raises TableError if damaged."""
        if self.live is None:
            return CURRENT.empty_table().select(columns)
        return read_parquet_bytes(self.live, CURRENT, CURRENT_KEY, columns)

    def attempts_table(self) -> pa.Table:
        """Returns the table ATTEMPTS, empty if there is none. Raises BadInput if it is damaged."""
        return ATTEMPTS.empty_table() if self.attempts is None else parse_attempts(self.attempts)

    def decisions_table(self) -> pa.Table:
        """Returns the table DECISIONS, empty if there is none. Raises BadInput if it is damaged."""
        return DECISIONS.empty_table() if self.decisions is None else parse_decisions(self.decisions)


def read_summaries(store: ObjectStore) -> Summaries:
    """Reads all summaries, one request each."""
    return Summaries(
        commits=read_stored(store, COMMITS_KEY),
        live=read_if_there(store, CURRENT_KEY),
        attempts=read_if_there(store, ATTEMPTS_KEY),
        decisions=read_if_there(store, DECIDED_KEY),
    )


def read_if_there(store: ObjectStore, key: str) -> bytes | None:
    """Returns an object, or None if there is no such object."""
    try:
        return store.get(key)
    except ObjectNotFound:
        return None
