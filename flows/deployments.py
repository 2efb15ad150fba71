"""`python -m flows.deployments [NAME]...`: serves the deployments on this machine until Ctrl-C.

| deployment | what starts a run | runs at a time | a run during another one |
|---|---|---|---|
| generate-catalog/generate-catalog | cron, by default every night at 02:00 | 1 | waits for its turn |
| watch-photos/watch-photos | every 30 seconds | 1 | is cancelled: the next listing finds the same files |
| export-channel/export-channel | the end of a generate-catalog, if TOYGAN_CHANNELS is set | 1 | waits |
| retrain/retrain | the event `toygan.photos.uploaded` | 1 | waits, then sees all photos up to its start |

At each start the service makes the deployments from the settings (`flows.settings`), and keeps a person's
changes to the deployments. If neither PREFECT_API_URL nor Prefect's profile names a server, the service
starts one. `flows/prefect.yaml` describes the same deployments for a work pool.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flows.exits import BAD_INPUT, FAILED
from flows.reach import check_server, prefect_settings, reach_loopback_directly
from flows.stopping import ends_at_sigterm
from toygan.errors import BadInput, ToyganError
from toygan.uris import redacted

if TYPE_CHECKING:
    from uuid import UUID

    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment
    from pydantic import BaseModel

    from flows.service import Served
    from flows.settings import ServiceSettings

WATCHER = "watch-photos"


def make_deployments(settings: "ServiceSettings") -> "list[RunnerDeployment]":
    """Returns the deployments that this machine serves."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron, Interval

    from flows.events import on_nights, on_uploads
    from flows.export_channel import export_channel
    from flows.generate_catalog import generate_catalog
    from flows.parameters import ExportParameters, GenerateParameters, RetrainParameters, WatchParameters
    from flows.retrain import retrain
    from flows.watch_photos import watch_photos

    waits = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    is_cancelled = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)

    # Absolute paths mean the same file, wherever a run is started.
    catalog, store, work = map(_absolute, (settings.catalog, settings.store, settings.work))
    photos = None if settings.photos is None else _absolute(settings.photos)
    generate = GenerateParameters(
        catalog=catalog,
        output=store,
        device=settings.device,
        mode=settings.mode,
        refresh_share=settings.refresh_share,
        retire=settings.retire,
    )
    watch = WatchParameters(store=store, min_new_photos=settings.min_new_photos)
    exported = ExportParameters(
        channels=settings.channels,
        output=store,
        base_url=settings.export_url,
        collage=settings.collage,
    )
    learn = RetrainParameters(store=store, photos=photos, work=work, device=settings.device)
    return [
        _deployment(
            generate_catalog,
            generate,
            schedule=Cron(settings.cron, timezone=settings.timezone),
            concurrency_limit=waits,
        ),
        _deployment(
            watch_photos,
            watch,
            schedule=Interval(timedelta(seconds=settings.watch_interval_s)),
            concurrency_limit=is_cancelled,
        ),
        _deployment(
            export_channel,
            exported,
            triggers=[on_nights()] if settings.channels else [],
            concurrency_limit=waits,
        ),
        _deployment(retrain, learn, triggers=[on_uploads(quiet_s=settings.quiet_s)], concurrency_limit=waits),
    ]


def _deployment(flow: "Flow[..., Any]", parameters: "BaseModel", **options: Any) -> "RunnerDeployment":
    """Returns a deployment with the name of its flow."""
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    return RunnerDeployment.from_flow(
        flow,
        name=flow.name,
        parameters={"parameters": parameters.model_dump(mode="json")},
        paused=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
        **options,
    )


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())


def serve_all(names: Sequence[str] = ()) -> None:
    """Serves the deployments of these names, by default all of them, until a signal stops this process.

    Raises BadInput for wrong settings or names.
    """
    reach_loopback_directly()
    url = prefect_settings().api.url
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.local_server import local_server
    from flows.metrics import serve_metrics, share_metrics
    from flows.service import ServiceRunner
    from flows.settings import service_settings

    settings = service_settings()
    deployments = _chosen(make_deployments(settings), names)
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(local_server())
            stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        check_server(url)
        if settings.metrics_port:
            share_metrics()
            serve_metrics(settings.metrics_port, settings.metrics_address)
        print(
            f"serving the store {settings.store} with the Prefect server {redacted(url)}",
            file=sys.stderr,
            flush=True,
        )
        ServiceRunner(grace=timedelta(hours=settings.grace_h)).serve(
            _apply(deployments, timedelta(hours=settings.grace_h))
        )


def _apply(deployments: "list[RunnerDeployment]", grace: timedelta) -> "dict[UUID, Served]":
    """Creates or updates the deployments on the server; keeps and prints a person's changes."""
    from prefect.client.orchestration import get_client

    from flows.kept import keep_changes, read_deployment, remember, wanted_by_settings
    from flows.nights import look_before_start
    from flows.service import Served

    applied = {}
    with get_client(sync_client=True) as client:
        for deployment in deployments:
            there, wanted = read_deployment(client, deployment), wanted_by_settings(deployment)
            if there is not None and (kept := keep_changes(client, deployment, there)):
                text = f"{deployment.name}: changes on Prefect's pages are kept: {', '.join(kept)}"
                print(text, file=sys.stderr, flush=True)
            nights = look_before_start(client, deployment.name, there, grace)
            identifier = cast("UUID", deployment.apply())  # the declared type includes coroutines
            remember(client, deployment.name, wanted)
            applied[identifier] = Served(
                name=deployment.name,
                is_dropped=deployment.name == WATCHER,
                schedules=() if there is None else there.schedules,
                nights=nights,
            )
    return applied


def _chosen(deployments: "list[RunnerDeployment]", names: Sequence[str]) -> "list[RunnerDeployment]":
    known = {deployment.name: deployment for deployment in deployments}
    if unknown := sorted(set(names) - known.keys()):
        raise BadInput(f"there is no deployment {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def main() -> None:
    """Runs the command. Exits with 0 if a signal stopped it, 1 (failed) or 2 (bad input)."""
    try:
        # Until Prefect handles signals, SIGTERM ends this process and the server that it started.
        with ends_at_sigterm():
            serve_all(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(0)
    except BadInput as error:
        print(f"toygan: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except ToyganError as error:
        print(f"toygan: {error}", file=sys.stderr)
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
