"""From the upload of the last photo to the start of `retrain`, with the default intervals."""

import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.flows.serving import Service, serving
from tests.servers import prefect_server
from tests.toygan.uploads.uploads import picture
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

REPEATS = 3
PHOTOS = 20  # as many as make a retraining worthwhile
# Of one product: nothing can be held out, so that each retraining is over once it has looked at them.
SKU = "sku-1"


def measure() -> list[float]:
    """Seconds of each wait. The photos come just after a listing: they wait for the whole interval."""
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as name:
        folder = Path(name)
        store = open_store(folder / "store")
        with (
            prefect_server(folder) as environment,
            serving(environment, folder, TOYGAN_STORE=store.uri, TOYGAN_DEVICE="cpu") as service,
        ):
            service.wait_for("the first listing", lambda: service.runs("watch-photos", "COMPLETED"))
            return [_wait_once(service, store, number) for number in range(REPEATS)]


def _wait_once(service: Service, store: ObjectStore, number: int) -> float:
    listings = len(service.runs("watch-photos", "COMPLETED"))
    service.wait_for("a listing", lambda: len(service.runs("watch-photos", "COMPLETED")) > listings)
    before = {run["id"] for run in service.runs("retrain")}
    for photo in range(number * PHOTOS, (number + 1) * PHOTOS):
        store.put(f"photos/brick/{SKU}/{photo:04d}.png", picture(photo))
    uploaded = datetime.now(UTC)

    def started() -> list[datetime]:
        runs = [run for run in service.runs("retrain") if run["id"] not in before and run["start_time"]]
        return [datetime.fromisoformat(run["start_time"]) for run in runs]

    (start,) = service.wait_for("the start of a retraining", started)
    while service.runs("retrain", "RUNNING", "PENDING"):
        time.sleep(1)
    return float((start - uploaded).total_seconds())


def main() -> None:
    waits_s = measure()
    print(
        f"from the last upload to the start of `retrain` (under 90 s): {max(waits_s):.0f} s at most, "
        f"{statistics.median(waits_s):.0f} s in the middle of {REPEATS}"
    )


if __name__ == "__main__":
    main()
