"""The work of a retraining on disk: one that died is taken up from here.

WORK/<store id>/lock                      held by the process at work
WORK/<store id>/<snapshot id>/            one retraining
    champion/<name>/                      what it starts from
    photos/                               the snapshot, see toygan.retraining.snapshot
    index.parquet                         the rows of the photo index that it is made of
    plan.json                             the commit of all above: what it is to do
    budget.json                           how long it takes, and how much it does
    training/                             see toygan.training.checkpoint
    outcome/                              the commit of the outputs: what is to be published
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from toygan.disk import disk_errors
from toygan.errors import Retryable, RunFailed
from toygan.storage.store import ObjectStore

_STORE_ID_LETTERS = 12


def store_id(store: ObjectStore) -> str:
    """First hex digits of the sha256 of the store's URI: fit for any name, the same everywhere."""
    return sha256(store.uri.encode()).hexdigest()[:_STORE_ID_LETTERS]


@contextmanager
def working_folder(work: Path, store: ObjectStore) -> Iterator[Path]:
    """The folder of the store's retrainings, for this process alone until the context ends.

    Raises Retryable while another process works there, RunFailed where the folder cannot be used, and as
    `disk_errors` does for what goes wrong with files in the context.
    """
    folder = work.absolute() / store_id(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise RunFailed(f"the work folder {folder} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Retryable(f"another retraining of {store.uri} is at work in {folder}") from None
        with disk_errors(folder, "what is done is kept. Make room, and the next retraining goes on"):
            yield folder
    finally:
        os.close(descriptor)
