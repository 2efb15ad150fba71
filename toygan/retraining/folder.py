"""The working folder of a retraining, from which an interrupted one resumes.

WORK/<store id>/lock                      locked by the active process
WORK/<store id>/<snapshot id>/            one retraining
    champion/<name>/                      the model that it starts from
    photos/                               the snapshot, see toygan.retraining.snapshot
    index.parquet                         the rows of the photo index in the snapshot
    plan.json                             the plan; written last, so the files above are complete if it exists
    budget.json                           durations and sizes of its parts
    training/                             see toygan.training.checkpoint
    outcome/                              the results to be published; if it exists, it is complete
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from toygan.disk import disk_errors, lock_file
from toygan.errors import Retryable, RunFailed
from toygan.locks import try_lock
from toygan.storage.store import ObjectStore

_STORE_ID_LETTERS = 12


def store_id(store: ObjectStore) -> str:
    """Returns the first hex digits of the sha256 of the store's URI: the same on all machines."""
    return sha256(store.uri.encode()).hexdigest()[:_STORE_ID_LETTERS]


@contextmanager
def working_folder(work: Path, store: ObjectStore) -> Iterator[Path]:
    """Locks the folder of the store's retrainings for this process and yields it.

    Raises Retryable while another process uses the folder, and RunFailed if the folder cannot be used. For
    file errors within the context, it raises what `disk_errors` raises.
    """
    folder = work.absolute() / store_id(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = lock_file(folder / "lock")
    except OSError as error:
        raise RunFailed(f"the work folder {folder} cannot be used: {error.strerror}") from error
    try:
        if not try_lock(descriptor):
            raise Retryable(f"another retraining of {store.uri} is running in {folder}")
        with disk_errors(folder, "finished work is kept. Make room, and the next retraining resumes"):
            yield folder
    finally:
        os.close(descriptor)
