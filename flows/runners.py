"""Task runners for the shards of a run: threads of the flow's process, Dask or Ray.

TOYGAN_RUNNER chooses one. Threads share one model in one process. On Dask and Ray every worker process loads
the model at its first shard and keeps the model. If a worker or node is lost, Dask or Ray computes the lost
shards again elsewhere.
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
from toygan.device import usable_cores
from toygan.errors import BadInput

if TYPE_CHECKING:
    from flows.settings import ServiceSettings

Runner = TaskRunner[PrefectFuture[Any]]

# Tasks receive and return only numbers, and pictures go to the store. So Ray's object store can be small.
_OBJECT_STORE_BYTES = 100_000_000


class RunnerOfTheSettings(ThreadPoolTaskRunner[Any]):
    """A placeholder in a flow's decorator for the runner that the settings choose when the flow runs."""

    def duplicate(self) -> "RunnerOfTheSettings":
        """Returns the runner for a flow run (Prefect calls this); raises BadInput for wrong settings."""
        return cast("RunnerOfTheSettings", make_runner(service_settings()))


# Prefect's type for runners does not include Prefect's own thread runner.
BY_THE_SETTINGS = cast("Runner", RunnerOfTheSettings())


def make_runner(settings: "ServiceSettings") -> Runner:
    """Returns the runner of the settings; raises BadInput if its package is missing."""
    match settings.runner:
        case "dask":
            return _dask(settings)
        case "ray":
            return _ray(settings)
    if settings.runner_address:
        raise BadInput("TOYGAN_RUNNER_ADDRESS needs a cluster; set TOYGAN_RUNNER to dask or ray, too")
    return cast("Runner", ThreadPoolTaskRunner(max_workers=settings.shards_at_a_time))


def cores_of_a_shard() -> int | None:
    """Returns the number of cores of each worker process.

    Returns None if shards run in the flow's process.
    """
    settings = service_settings()
    return None if settings.runner == "threads" else settings.shard_cpus


def shard_resources() -> AbstractContextManager[object]:
    """Returns a context in which shards are submitted. On Ray it reserves their cores and GPUs."""
    settings = service_settings()
    if settings.runner != "ray":
        return nullcontext()
    context: AbstractContextManager[object] = _extra("prefect_ray.context", "ray").remote_options(
        num_cpus=settings.shard_cpus,
        num_gpus=settings.shard_gpus,
        # By default Ray ends a process with a GPU after each task, so the process would load its model again.
        max_calls=0,
    )
    return context


def _dask(settings: "ServiceSettings") -> Runner:
    runner = _extra("prefect_dask", "dask").DaskTaskRunner
    # The workers start further processes for the checks, which daemon processes may not do.
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
    return max(1, usable_cores() // settings.shard_cpus)


def _extra(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"TOYGAN_RUNNER={extra} needs packages that are not installed ({error.name}); "
            f"pip install 'toygan[{extra}]'"
        ) from error
