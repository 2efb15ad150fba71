"""The events that toygan emits, and the triggers of the deployments `retrain` and `export-channel`.

| event | resource | payload |
|---|---|---|
| `toygan.photos.uploaded` | `toygan.photos.<store id>` | prefix, count |
| `toygan.alert.<kind>` | `toygan.category.<store id>.<category>` | run_id, store, message, details |
| `toygan.alert.none-approved` | `toygan.store.<store id>` | the same |

Kinds of alerts of a category: `acceptance-halved`, `no-picture`; see `toygan.publishing.alerts`.
"""

from collections.abc import Iterable
from datetime import timedelta
from uuid import NAMESPACE_URL, uuid5

from prefect.events import emit_event
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

from toygan.publishing.alerts import Alert
from toygan.retraining.folder import store_id
from toygan.storage.keys import PHOTOS_PREFIX
from toygan.storage.store import ObjectStore

UPLOADED = "toygan.photos.uploaded"
PHOTOS_RESOURCE = "toygan.photos."
ALERT = "toygan.alert."
CATEGORY_RESOURCE = "toygan.category."
STORE_RESOURCE = "toygan.store."


def emit_uploads(store: ObjectStore, count: int) -> None:
    """Emits `toygan.photos.uploaded` with the number of good photos that no retraining has seen."""
    emit_event(
        UPLOADED,
        resource={
            "prefect.resource.id": PHOTOS_RESOURCE + store_id(store),
            "prefect.resource.name": store.uri,
        },
        payload={"prefix": f"{store.uri}/{PHOTOS_PREFIX}", "count": count},
    )


def emit_alerts(store: ObjectStore, run_id: str, alerts: Iterable[Alert]) -> None:
    """Emits an event for each alert; a resumed run emits the same events with the same ids."""
    for alert in alerts:
        if alert.category is None:
            resource, name = STORE_RESOURCE + store_id(store), store.uri
        else:
            resource, name = f"{CATEGORY_RESOURCE}{store_id(store)}.{alert.category}", alert.category
        emit_event(
            ALERT + alert.kind,
            resource={"prefect.resource.id": resource, "prefect.resource.name": name},
            payload={"run_id": run_id, "store": store.uri, "message": alert.message, **alert.details},
            id=uuid5(NAMESPACE_URL, f"{store.uri}/{run_id}/{alert.kind}/{alert.category}"),
        )


def on_uploads(*, quiet_s: float) -> DeploymentEventTrigger:
    """Returns the trigger that starts a deployment at `toygan.photos.uploaded`, from any sender.

    Further events within `quiet_s` seconds start no other run. The started run lists the uploads for at least
    that long, so it includes their photos.
    """
    return DeploymentEventTrigger(
        name="retrain-on-uploads",
        description="New photos lie in a store",
        expect={UPLOADED},
        match={"prefect.resource.id": PHOTOS_RESOURCE + "*"},
        threshold=1,
        within=timedelta(seconds=quiet_s),
    )


def on_nights() -> DeploymentEventTrigger:
    """Returns the trigger that starts a deployment after each completed run of generate-catalog."""
    return DeploymentEventTrigger(
        name="export-after-generating",
        description="A run of generate-catalog has completed",
        expect={"prefect.flow-run.Completed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": "generate-catalog"},
        threshold=1,
    )
