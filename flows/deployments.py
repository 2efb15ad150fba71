"""`python -m flows.deployments`: the whole service on one machine, until Ctrl-C; with names, a part of it.

| deployment | is started by | at a time | a run that finds another one |
|---|---|---|---|
| generate-catalog/generate-catalog | cron, by default every night at 02:00 | 1 | waits for its turn |
| watch-photos/watch-photos | every 30 seconds | 1 | is cancelled: the next listing sees the same |
| retrain/retrain | the event `toygan.photos.uploaded` | 1 | waits, then sees all that has come meanwhile |

They are made at each start from the settings (`flows.settings`); what a person changed at them stays. Where
Prefect is told of no server, by PREFECT_API_URL or its profile, one is started along with them.
`flows/prefect.yaml` describes the same deployments for a work pool.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flows.reach import check_server, reach_loopback_directly
from flows.stopping import ends_at_sigterm
from toygan.errors import BadInput, ToyganError
from toygan.uris import redacted

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.deployments.runner import RunnerDeployment

    from flows.service import Served
    from flows.settings import ServiceSettings

FAILED, BAD_INPUT = 1, 2
WATCHER = "watch-photos"


def make_deployments(settings: "ServiceSettings") -> "list[RunnerDeployment]":
    """The three deployments, as they are served from this machine."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Cron, Interval
    from prefect.types.entrypoint import EntrypointType

    from flows.events import on_uploads
    from flows.generate_catalog import generate_catalog
    from flows.parameters import GenerateParameters, RetrainParameters, WatchParameters
    from flows.retrain import retrain
    from flows.watch_photos import watch_photos

    waits = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    is_cancelled = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    # What a form shows must mean the same from wherever a run is started.
    catalog, store, work = map(_absolute, (settings.catalog, settings.store, settings.work))
    photos = None if settings.photos is None else _absolute(settings.photos)
    generate = GenerateParameters(
        catalog=catalog,
        output=store,
        device=settings.device,
        mode=settings.mode,
        refresh_share=settings.refresh_share,
    )
    watch = WatchParameters(store=store, min_new_photos=settings.min_new_photos)
    learn = RetrainParameters(store=store, photos=photos, work=work, device=settings.device)
    return [
        RunnerDeployment.from_flow(
            generate_catalog,
            name="generate-catalog",
            parameters={"parameters": generate.model_dump(mode="json")},
            schedule=Cron(settings.cron, timezone=settings.timezone),
            concurrency_limit=waits,
            paused=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
        RunnerDeployment.from_flow(
            watch_photos,
            name=WATCHER,
            parameters={"parameters": watch.model_dump(mode="json")},
            schedule=Interval(timedelta(seconds=settings.watch_interval_s)),
            concurrency_limit=is_cancelled,
            paused=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
        RunnerDeployment.from_flow(
            retrain,
            name="retrain",
            parameters={"parameters": learn.model_dump(mode="json")},
            triggers=[on_uploads(quiet_s=settings.quiet_s)],
            concurrency_limit=waits,
            paused=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    ]


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())


def serve_all(names: Sequence[str] = ()) -> None:
    """Serves the deployments of these names, by default all of them, until this process is told to stop.

    Raises BadInput for wrong settings or names.
    """
    reach_loopback_directly()
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    from flows.local_server import local_server
    from flows.metrics import serve_metrics, share_metrics
    from flows.service import ServiceRunner
    from flows.settings import service_settings

    settings = service_settings()
    deployments = _chosen(make_deployments(settings), names)
    with ExitStack() as stack:
        url = get_current_settings().api.url
        if url is None:
            url = stack.enter_context(local_server())
            stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        check_server(url)
        if settings.metrics_port:
            share_metrics()
            serve_metrics(settings.metrics_port, settings.metrics_address)
        print(f"serving the store {settings.store} with {redacted(url)}", file=sys.stderr, flush=True)
        ServiceRunner(grace=timedelta(hours=settings.grace_h)).serve(_apply(deployments))


def _apply(deployments: "list[RunnerDeployment]") -> "dict[UUID, Served]":
    """Makes the deployments on the server, or changes them; what a person changed stays and is said."""
    from prefect.client.orchestration import get_client

    from flows.kept import keep_changes, read_deployment, remember, wanted_by_settings
    from flows.service import Served

    applied = {}
    with get_client(sync_client=True) as client:
        for deployment in deployments:
            there, wanted = read_deployment(client, deployment), wanted_by_settings(deployment)
            if there is not None and (kept := keep_changes(client, deployment, there)):
                told = f"{deployment.name}: what was changed on Prefect's pages stays: {', '.join(kept)}"
                print(told, file=sys.stderr, flush=True)
            identifier = cast("UUID", deployment.apply())  # which is for coroutines, too
            remember(client, deployment.name, wanted)
            applied[identifier] = Served(
                name=deployment.name,
                is_dropped=deployment.name == WATCHER,
                schedules=() if there is None else there.schedules,
            )
    return applied


def _chosen(deployments: "list[RunnerDeployment]", names: Sequence[str]) -> "list[RunnerDeployment]":
    known = {deployment.name: deployment for deployment in deployments}
    if unknown := sorted(set(names) - known.keys()):
        raise BadInput(f"there is no deployment {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def main() -> None:
    """The command; ends with 0 when it was stopped, 1 (failed) or 2 (bad input)."""
    try:
        # Until Prefect takes over: a server that was started goes with this process.
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
