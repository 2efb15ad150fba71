"""Collects what the page of a store shows about uploads and retrainings."""

from datetime import datetime

from toygan.publishing.store_report import Uploads
from toygan.storage.store import ObjectStore
from toygan.uploads.index import read_quarantined
from toygan.uploads.retrained import read_retrained


def read_history(store: ObjectStore) -> Uploads:
    """Returns the times of the photos in quarantine, and the results of the retrainings.

    Raises TableError or BadInput for a damaged file.
    """
    retrained = read_retrained(store)
    results = retrained.results if retrained else ()
    return Uploads(
        quarantined_at=read_quarantined(store)["seen_at"],
        retrainings=[(datetime.fromisoformat(each.ended_at), each.text) for each in results],
    )
