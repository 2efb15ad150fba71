"""Where the shards of a run are computed: on threads of the flow's process, on Dask or on Ray.

TOYGAN_RUNNER chooses. Threads share one model in one process. Dask and Ray give every worker process a model
of its own, which it loads at its first shard and keeps; a shard that a lost worker or node held is computed
again elsewhere, by Dask or Ray themselves.
"""

import importlib
import logging
import os
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.settings import service_settings
from toygan.errors import BadInput

if TYPE_CHECKING:
    from flows.settings import ServiceSettings

Runner = TaskRunner[PrefectFuture[Any]]

# Shards travel as numbers, pictures go to the store: next to nothing passes through Ray's object store.
_OBJECT_STORE_BYTES = 100_000_000


class RunnerOfTheSettings(ThreadPoolTaskRunner[Any]):
    """Stands in a flow's decorator for the runner that the process is set up with when the flow runs."""

    def duplicate(self) -> "RunnerOfTheSettings":
        """What Prefect calls for a flow run of its own; raises BadInput for settings that do not fit."""
        return cast("RunnerOfTheSettings", make_runner(service_settings()))


# Prefect's type for a runner does not admit its own thread runner.
BY_THE_SETTINGS = cast("Runner", RunnerOfTheSettings())


def make_runner(settings: "ServiceSettings") -> Runner:
    """The runner that the settings ask for; raises BadInput where its package is missing."""
    match settings.runner:
        case "dask":
            return _dask(settings)
        case "ray":
            return _ray(settings)
    if settings.runner_address:
        raise BadInput("TOYGAN_RUNNER_ADDRESS is for a cluster: set TOYGAN_RUNNER to dask or ray, too")
    return cast("Runner", ThreadPoolTaskRunner(max_workers=settings.shards_at_a_time))


def cores_of_a_shard() -> int | None:
    """Cores for each worker process; None where shards share all that the flow's process has."""
    settings = service_settings()
    return None if settings.runner == "threads" else settings.shard_cpus


def shard_resources() -> AbstractContextManager[object]:
    """A context for submitting shards: on Ray they ask for their cores and GPUs."""
    settings = service_settings()
    if settings.runner != "ray":
        return nullcontext()
    context: AbstractContextManager[object] = _extra("prefect_ray.context", "ray").remote_options(
        num_cpus=settings.shard_cpus,
        num_gpus=settings.shard_gpus,
        max_calls=0,  # by default Ray ends a process that used a GPU, and its model, after each task
    )
    return context


def _dask(settings: "ServiceSettings") -> Runner:
    runner = _extra("prefect_dask", "dask").DaskTaskRunner
    # The workers have workers of their own, for the checks, which daemons may not.
    importlib.import_module("dask").config.set({"distributed.worker.daemon": False})
    if settings.runner_address:
        return cast("Runner", runner(address=settings.runner_address))
    logging.getLogger("distributed").setLevel(logging.WARNING)
    here = {
        "n_workers": _workers_here(settings),
        "threads_per_worker": 1,
        "memory_limit": None,
        "silence_logs": logging.WARNING,
        "dashboard_address": None,
    }
    return cast("Runner", runner(cluster_kwargs=here))


def _ray(settings: "ServiceSettings") -> Runner:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    runner = _extra("prefect_ray", "ray").RayTaskRunner
    options: dict[str, Any] = {"logging_level": "WARNING", "log_to_driver": False}
    if settings.runner_address:
        return cast("Runner", runner(address=settings.runner_address, init_kwargs=options))
    here = {
        "num_cpus": _workers_here(settings) * settings.shard_cpus,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    return cast("Runner", runner(init_kwargs=options | here))


def _workers_here(settings: "ServiceSettings") -> int:
    return max(1, len(os.sched_getaffinity(0)) // settings.shard_cpus)


def _extra(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"TOYGAN_RUNNER={extra} needs packages that are not installed ({error.name}); "
            f"pip install 'toygan[{extra}]'"
        ) from error
