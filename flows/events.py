"""The events that toygan emits, and who is asked to hear them.

| event | resource | payload |
|---|---|---|
| `toygan.photos.uploaded` | `toygan.photos.<store id>` | prefix, count |
"""

from datetime import timedelta

from prefect.events import emit_event
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

from toygan.retraining.folder import store_id
from toygan.storage.keys import PHOTOS_PREFIX
from toygan.storage.store import ObjectStore

UPLOADED = "toygan.photos.uploaded"
PHOTOS_RESOURCE = "toygan.photos."
# After an event, the ones that follow within this time start nothing: the run that was started lists the
# uploads for at least as long (toygan.uploads.indexing.QUIET_S), and so sees what they speak of.
DEBOUNCE = timedelta(seconds=30)


def tell_of_uploads(store: ObjectStore, count: int) -> None:
    """Emits `toygan.photos.uploaded`: so many usable photos are there that no retraining has seen."""
    emit_event(
        UPLOADED,
        resource={
            "prefect.resource.id": PHOTOS_RESOURCE + store_id(store),
            "prefect.resource.name": store.uri,
        },
        payload={"prefix": f"{store.uri}/{PHOTOS_PREFIX}", "count": count},
    )


def on_uploads() -> DeploymentEventTrigger:
    """The trigger that starts a deployment at `toygan.photos.uploaded`, whoever emitted it, of any count."""
    return DeploymentEventTrigger(
        name="retrain-on-uploads",
        description="New photos lie in a store",
        expect={UPLOADED},
        match={"prefect.resource.id": PHOTOS_RESOURCE + "*"},
        threshold=1,
        within=DEBOUNCE,
    )
